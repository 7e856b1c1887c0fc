r"""Brings what train_program.py and attack_programs.py left back to a study, for examples/reproduce.py to report.

    python -m benchmarks.xla.import_runs --preset=paper --runs=runs --attacks=attacks --scratch=paper/scratch
    python examples/reproduce.py --preset=paper --seeds=1 --output=paper

--runs holds a folder for each cell, named as export_training.py named it; a cell that was not trained is left out, and
reproduce.py would train it. So it would run the attacks that are not there, or all of them without --attacks.
"""

import json
import os
import pathlib
import shutil

import numpy as np
from absl import app, flags

from benchmarks.xla.known_attack import KnownAttack
from flowreg_examples import presets, study
from keras_flowreg.commands import outputs, training
from keras_flowreg.evaluation.journal import digest

_PRESET = flags.DEFINE_enum("preset", "paper", list(presets.PRESETS), "whose cells")
_SEEDS = flags.DEFINE_integer("seeds", 1, "how many seeds", lower_bound=1)
_RUNS = flags.DEFINE_string("runs", None, "the folder of the trainings", required=True)
_ATTACKS = flags.DEFINE_string("attacks", None, "the folder of the attacks' programs")
_SCRATCH = flags.DEFINE_string("scratch", None, "the study's folder for what is not done yet", required=True)


def trained_model(cell, run):
    """The model of a cell with the weights of one training."""
    epochs = len((run / study.HISTORY).read_text().splitlines())
    if epochs < cell.recipe.schedule.epochs:
        raise app.UsageError(f"Expected {cell.recipe.schedule.epochs} epochs in {run}. Received {epochs}: train on.")
    model = cell.build_model(cell.load())
    with np.load(run / f"state{epochs}.npz") as state:
        model.base_model.set_weights([state[f"weight_{n}"] for n in range(len(model.base_model.weights))])
    return model


def results(programs, run, split, batches):
    """`{(attack, radius): {digest of a batch: what its program said of each example, by name}}`."""
    found = {}
    for path in run.glob(f"{split}-attack*.npz"):
        facts = json.loads((programs / path.stem.split("-")[1] / "program.json").read_text())
        with np.load(path) as arrays:
            values = {name: arrays[name] for name in arrays if arrays[name].shape}
        of_batches = found[facts["attack"], facts["epsilon"]] = {}
        first = 0
        for images, _ in batches:
            of_batches[digest([images])] = {name: array[first : first + len(images)] for name, array in values.items()}
            first += len(images)
    return found


def import_attacks(cell, attacks_of, model, programs, run, folder):
    """Writes the study's partial results from what the programs found."""
    setting, (attacks, epsilons) = cell.setting, attacks_of(cell.setting)
    model.compile(loss=training.cross_entropy())
    dataset = setting.load(study.BATCH_SIZE)
    for split, names in study.splits(attacks).items():
        batches = getattr(dataset, split).unbatch().take(setting.examples).batch(study.BATCH_SIZE)
        found = results(programs, run, split, list(batches.as_numpy_iterator()))
        if {name for name, _ in found} >= set(names):
            known = {name: KnownAttack(attacks[name], _finder(found, name)) for name in names}
            study.evaluate(model, setting, dataset, split, known, epsilons, folder)


def _finder(found, name):
    return lambda epsilon, images: found[name, epsilon][digest([images])]


def import_run(cell, attacks_of, run, folder):
    """Writes the weights, the history and the attacks of one training as the study keeps them."""
    model = trained_model(cell, run)
    with outputs.claimed_folder(folder, cell.training_settings(), "scratch"):
        model.save_weights(os.path.join(folder, study.BEST_WEIGHTS))
        shutil.copy(run / study.HISTORY, os.path.join(folder, study.HISTORY))
        if _ATTACKS.value:
            programs = pathlib.Path(_ATTACKS.value) / cell.network
            import_attacks(cell, attacks_of, model, programs, run, folder)


def main(_):
    chosen = presets.PRESETS[_PRESET.value]
    for cell in chosen.cells(_SEEDS.value):
        run = pathlib.Path(_RUNS.value) / cell.name
        if (run / study.HISTORY).exists():
            import_run(cell, chosen.attacks, run, os.path.join(_SCRATCH.value, cell.name))
            print(f"Imported {cell.name}")


if __name__ == "__main__":
    app.run(main)

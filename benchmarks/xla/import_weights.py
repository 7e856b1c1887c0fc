r"""Brings the weights that train_program.py left back into Keras models, for examples/reproduce.py to attack.

    python -m benchmarks.xla.import_weights --preset=paper --runs=runs --scratch=paper/scratch
    python examples/reproduce.py --preset=paper --output=paper --examples=1000

--runs holds a folder for each cell, named as export_training.py named it; a cell that was not trained is left out, and
reproduce.py would train it.
"""

import os
import pathlib
import shutil

import numpy as np
from absl import app, flags

from flowreg_examples import presets, study
from keras_flowreg.commands import outputs

_PRESET = flags.DEFINE_enum("preset", "paper", list(presets.PRESETS), "whose cells")
_SEEDS = flags.DEFINE_integer("seeds", 1, "how many seeds", lower_bound=1)
_RUNS = flags.DEFINE_string("runs", None, "the folder of the trainings", required=True)
_SCRATCH = flags.DEFINE_string("scratch", None, "the study's folder for what is not done yet", required=True)


def import_run(cell, run, folder):
    """Writes the weights and the history of one training as the study keeps them."""
    epochs = len((run / study.HISTORY).read_text().splitlines())
    if epochs < cell.recipe.schedule.epochs:
        raise app.UsageError(f"Expected {cell.recipe.schedule.epochs} epochs in {run}. Received {epochs}: train on.")
    model = cell.build_model(cell.load())
    with np.load(run / f"state{epochs}.npz") as state:
        model.base_model.set_weights([state[f"weight_{n}"] for n in range(len(model.base_model.weights))])
    with outputs.claimed_folder(folder, cell.training_settings(), "scratch"):
        model.save_weights(os.path.join(folder, study.BEST_WEIGHTS))
        shutil.copy(run / study.HISTORY, os.path.join(folder, study.HISTORY))


def main(_):
    for cell in presets.PRESETS[_PRESET.value].cells(_SEEDS.value):
        run = pathlib.Path(_RUNS.value) / cell.name
        if (run / study.HISTORY).exists():
            import_run(cell, run, os.path.join(_SCRATCH.value, cell.name))
            print(f"Imported {cell.name}")


if __name__ == "__main__":
    app.run(main)

r"""Writes the attacks of a study as XLA programs, and the images to attack, for a machine without TensorFlow.

    python -m benchmarks.xla.export_attacks --preset=paper --output=attacks

writes a folder for each network of the study, with a program for each attack at each radius, and the images:
data-cifar10-validation and data-cifar10-test. The weights come later, from train_program.py: see attack_programs.py.
"""

import dataclasses
import json
import os

import tensorflow as tf
from absl import app, flags

from benchmarks.xla import exporting
from flowreg_examples import presets, study
from keras_flowreg import compat
from keras_flowreg.commands import training
from keras_flowreg.evaluation.record import AttackRecord
from keras_flowreg.ops.losses import resolve_loss

# The arrays of a record.
_FIELDS = [field.name for field in dataclasses.fields(AttackRecord) if field.name != "seconds"]

_PRESET = flags.DEFINE_enum("preset", "paper", list(presets.PRESETS), "whose attacks")
_SEEDS = flags.DEFINE_integer("seeds", 1, "of how many seeds the trainings are", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "a folder", required=True)


def searches(setting, attacks_of):
    """`[(name, radius, attack)]`: an attack with a radius once for each of its radii."""
    attacks, epsilons = attacks_of(setting)
    found = []
    for name, attack in attacks.items():
        if attack.epsilon is None:
            found.append((name, None, attack))
        else:
            found += [(name, epsilon, attack.replace(epsilon=epsilon)) for epsilon in epsilons[name]]
    return found


def recorded(attack, network):
    """A function of raw images and their labels: what a report keeps of the attack on them."""
    loss = resolve_loss(attack.loss, training.cross_entropy())

    def run(images, labels):
        images = tf.image.convert_image_dtype(images, tf.float32)
        result = attack.run(images, labels, model=network, loss=loss)
        values = {**result.displacement._asdict(), **result._asdict()}
        return {field: values[field] for field in _FIELDS}

    return run


def export(cells, attacks_of, folder):
    """Writes every attack on the network that some cells share."""
    setting = cells[0].setting
    dataset = cells[0].load()
    network = cells[0].build_model(dataset).base_model
    weights = {f"weight_{n}": variable for n, variable in enumerate(compat.tf_variables(network.weights))}
    size = min(study.BATCH_SIZE, setting.examples)
    inputs = {
        "images": tf.TensorSpec([size, *dataset.image_shape], tf.uint8),
        "labels": tf.TensorSpec([size], tf.int64),
    }
    found = searches(setting, attacks_of)
    splits = study.splits([name for name, _, _ in found])
    for number, (name, epsilon, attack) in enumerate(found):
        print(f"Compiling {name}" if epsilon is None else f"Compiling {name} at {epsilon:g} px", flush=True)
        exporting.write_program(
            recorded(attack, network),
            inputs,
            weights,
            os.path.join(folder, f"attack{number}"),
            left_out=weights,
            attack=name,
            epsilon=epsilon,
            splits=[split for split, names in splits.items() if name in names],
            batch_size=size,
        )
    with open(os.path.join(folder, "cells.json"), "w", encoding="utf-8") as file:
        json.dump({cell.name: cell.recipe.schedule.epochs for cell in cells}, file)


def main(_):
    chosen, networks = presets.PRESETS[_PRESET.value], {}
    for cell in chosen.cells(_SEEDS.value):
        networks.setdefault(cell.network, []).append(cell)
    for name, cells in networks.items():
        export(cells, chosen.attacks, os.path.join(_OUTPUT.value, name))
    for setting in {cell.setting.dataset: cell.setting for (cell, *_) in networks.values()}.values():
        dataset = setting.load(setting.examples)
        for split in ("validation", "test"):
            folder = os.path.join(_OUTPUT.value, f"data-{setting.dataset}-{split}")
            exporting.write_data(getattr(dataset, split).take(1), folder)


if __name__ == "__main__":
    app.run(main)

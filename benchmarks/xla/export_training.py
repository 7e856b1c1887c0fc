r"""Writes the training steps of a study as XLA programs, and their training images, for a machine without TensorFlow.

    python -m benchmarks.xla.export_training --preset=paper --output=programs

writes a folder for each cell of the study that examples/reproduce.py would run, and data-cifar10, its training images
in parts. See README.md for how to train, and how to bring the weights back.
"""

import dataclasses
import os

import tensorflow as tf
from absl import app, flags

from benchmarks.xla import exporting
from benchmarks.xla.augmentation import cropped_and_mirrored
from flowreg_examples import presets
from keras_flowreg.commands import datasets
from keras_flowreg.ops import random

_PRESET = flags.DEFINE_enum("preset", "paper", list(presets.PRESETS), "whose cells")
_SEEDS = flags.DEFINE_integer("seeds", 1, "how many seeds", lower_bound=1)
_CELL = flags.DEFINE_multi_string("cell", None, "only these, by name; may be given several times")
_OUTPUT = flags.DEFINE_string("output", None, "a folder", required=True)
_PART = flags.DEFINE_integer("part", 16_000, "images in a part of the data", lower_bound=1)
_CROP_STREAM = 1  # The regularizer's random starts are stream 0.


def export(cell, folder):
    """Writes the training step of one cell."""
    setting = cell.setting
    dataset = cell.load()
    steps = dataset.train_examples // setting.batch_size
    # The steps of an epoch are whole batches.
    dataset = dataclasses.replace(dataset, train_examples=steps * setting.batch_size)
    model = cell.build_model(dataset)
    images = tf.TensorSpec([setting.batch_size, *dataset.image_shape], tf.uint8)
    labels = tf.TensorSpec([setting.batch_size], tf.int64)
    exporting.write_program(
        training_step(model, cell, steps),
        {"images": images, "labels": labels},
        exporting.build_variables(model, images.shape),
        folder,
        batch_size=setting.batch_size,
        epochs=cell.recipe.schedule.epochs,
        seed=cell.seed,
    )


def training_step(model, cell, steps_per_epoch):
    """`model.train_step` of raw images, with all that changes from step to step taken from the step's number."""
    schedule = cell.recipe.schedule
    warmup = schedule.warmup * schedule.epochs * steps_per_epoch
    padding, mirrored = datasets.augmentation(cell.setting.dataset)

    def step(images, labels):
        number = tf.cast(model.optimizer.iterations, tf.int32)
        fraction = tf.minimum(tf.cast(number, tf.float32) / warmup, 1.0) if warmup else 1.0
        for scale in (model.penalty_scale, model.epsilon_scale, model.attack_scale):
            if scale is not None:
                scale.assign(fraction)
        seed = random.fold_in(tf.stack([cell.seed, number]), _CROP_STREAM)
        images = cropped_and_mirrored(images, seed, padding, mirrored)
        return model.train_step((tf.image.convert_image_dtype(images, tf.float32), labels))

    return step


def main(_):
    cells = presets.PRESETS[_PRESET.value].cells(_SEEDS.value, _CELL.value)
    for cell in cells:
        print(f"Compiling {cell.name}", flush=True)
        export(cell, os.path.join(_OUTPUT.value, cell.name))
    for setting in {cell.setting.dataset: cell.setting for cell in cells}.values():
        images = setting.load(_PART.value, augment=False).train
        exporting.write_data(images, os.path.join(_OUTPUT.value, f"data-{setting.dataset}"))


if __name__ == "__main__":
    app.run(main)

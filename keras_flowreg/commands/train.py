r"""Trains a classifier by one of several methods against deformations, and saves it.

    keras-flowreg train --dataset=digits --method=flow_gradient --output=digits.keras
    keras-flowreg train --dataset=cifar10 --architecture=vgg11 --width=1 --batch_size=128 \
        --method=flow_gradient+deformation_training --output=cifar10.keras

Each method has a recipe for each data set (see keras_flowreg/commands/recipes.py); the other flags change what is in it.
"""

import dataclasses
import os
import shutil

import keras
import tensorflow as tf
from absl import flags

import keras_flowreg as fr
from keras_flowreg.commands import outputs, training, training_flags
from keras_flowreg.commands.command_line import Result
from keras_flowreg.commands.datasets import Dataset
from keras_flowreg.commands.flags import model_options
from keras_flowreg.commands.progress import TrainingProgress
from keras_flowreg.commands.recipes import Recipe

_PICTURED_EPSILON = 0.4  # pixels


def define_flags() -> None:
    """Those of a training, and what is logged."""
    training_flags.define_training_flags()
    flags.DEFINE_string("logs", None, "where to write TensorBoard's logs and the backup to resume from")
    flags.DEFINE_bool("pictures", False, "whether TensorBoard's logs hold pictures of attacked validation images, too")


def main() -> Result:
    """Trains the model of the flags."""
    args = flags.FLAGS
    # Before the data set is loaded: the order of the examples depends on it too.
    keras.utils.set_random_seed(args.seed)
    outputs.expect_model_path(args.output, "output")
    recipe = training_flags.recipe()
    if args.pictures and not (args.logs and args.validation_size):
        raise ValueError(
            "Expected `--pictures` with `--logs`, and with validation images. Received it without one of them."
        )
    if args.logs is None:
        return _train(recipe)
    with outputs.claimed_folder(args.logs, training_flags.settings(), "logs"):
        return _train(recipe)


def _train(recipe: Recipe) -> Result:
    """Trains by a recipe, and saves the model."""
    output = flags.FLAGS.output
    dataset = training_flags.load_dataset()
    print(f"Recipe: {recipe}")
    model = training.build_model(dataset, recipe, **model_options())
    history = training.fit(model, dataset, recipe.schedule, _callbacks(dataset), verbose=0).history
    outputs.save_model(model, output)
    if flags.FLAGS.logs:
        shutil.rmtree(_backup_folder())
    last = {name: values[-1] for name, values in history.items()}
    return Result(f"Saved {output}", {"output": output, "recipe": dataclasses.asdict(recipe), "last_epoch": last})


def _backup_folder() -> str:
    return os.path.join(flags.FLAGS.logs, "backup")


def _callbacks(dataset: Dataset) -> list[keras.callbacks.Callback]:
    """The progress bar; monitors and backups, where there is a place for them."""
    logs = flags.FLAGS.logs
    if logs is None:
        return [TrainingProgress()]
    return [
        *(_monitors(dataset.validation) if dataset.validation else ()),
        keras.callbacks.TensorBoard(logs),
        # A training that is done is begun anew.
        keras.callbacks.CSVLogger(os.path.join(logs, "history.csv"), append=os.path.exists(_backup_folder())),
        TrainingProgress(),
        # Behind what writes down an epoch; and it stays until the model is saved.
        keras.callbacks.BackupAndRestore(_backup_folder(), delete_checkpoint=False),
    ]


def _monitors(validation: tf.data.Dataset) -> list[keras.callbacks.Callback]:
    """What is measured, and drawn, on validation images."""
    monitors: list[keras.callbacks.Callback] = [fr.callbacks.FlowGradientMonitor(validation, batches=4)]
    if flags.FLAGS.pictures:
        attack = fr.attacks.FlowFrankWolfe(_PICTURED_EPSILON)
        monitors.append(fr.callbacks.AttackPictures(attack, validation, flags.FLAGS.logs))
    return monitors

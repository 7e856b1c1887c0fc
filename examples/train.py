r"""Trains a classifier by one of several methods against deformations, and saves it.

    python examples/train.py --dataset=digits --method=flow_gradient --output=/tmp/digits.keras
    python examples/train.py --dataset=cifar10 --architecture=vgg11 --width=1 --batch_size=128 \
        --method=flow_gradient+deformation_training --output=/tmp/cifar10.keras

Each method has a recipe for each data set (see flowreg_examples/recipes.py); the other flags change what is in it.
"""

import os

import keras
from absl import flags

import keras_flowreg as fr
from flowreg_examples import command_line, outputs, training, training_flags
from flowreg_examples.flags import model_options

training_flags.define_training_flags()
_LOG_DIR = flags.DEFINE_string("logs", None, "where to write TensorBoard's logs and the backup to resume from")


def callbacks(dataset):
    """Monitors and backups, where there is a place for them."""
    if _LOG_DIR.value is None:
        return []
    monitors = [fr.callbacks.FlowGradientMonitor(dataset.validation, batches=4)] if dataset.validation else []
    return [
        keras.callbacks.BackupAndRestore(os.path.join(_LOG_DIR.value, "backup")),
        *monitors,
        keras.callbacks.TensorBoard(_LOG_DIR.value),
        keras.callbacks.CSVLogger(os.path.join(_LOG_DIR.value, "history.csv"), append=True),
    ]


def main(_):
    # Before the data set is loaded: the order of the examples depends on it too.
    keras.utils.set_random_seed(flags.FLAGS.seed)
    outputs.expect_model_path(flags.FLAGS.output, "output")
    recipe = training_flags.recipe()
    if _LOG_DIR.value is None:
        train(recipe)
    else:
        with outputs.claimed_folder(_LOG_DIR.value, training_flags.settings(), "logs"):
            train(recipe)


def train(recipe):
    """Trains by a recipe, and saves the model."""
    dataset = training_flags.load_dataset()
    print(f"Recipe: {recipe}")
    model = training.build_model(dataset, recipe, **model_options())
    training.fit(model, dataset, recipe.schedule, callbacks(dataset))
    outputs.save_model(model, flags.FLAGS.output)
    print(f"Saved {flags.FLAGS.output}")


if __name__ == "__main__":
    command_line.run(main)

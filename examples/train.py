r"""Trains a classifier by one of several methods against deformations, and saves it.

    python examples/train.py --dataset=digits --method=flow_gradient --output=/tmp/digits.keras
    python examples/train.py --dataset=cifar10 --architecture=vgg11 --width=1 --batch_size=128 \
        --method=flow_gradient+deformation_training --output=/tmp/cifar10.keras

Each method has a recipe for each data set (see common/recipes.py); the other flags change what is in it.
"""

import dataclasses
import os

import keras
from absl import app, flags
from common import architectures, datasets, recipes, training
from common.flags import define_dataset_flags, define_model_flags

import keras_flowreg as fr
from keras_flowreg import regularizers
from keras_flowreg.ops import warp

define_dataset_flags()
define_model_flags()
_METHOD = flags.DEFINE_enum("method", "flow_gradient", recipes.METHODS, "what is trained against deformations with")
_RECIPE_FLAGS = (
    flags.DEFINE_float("weight", None, "of the penalty", lower_bound=0),
    flags.DEFINE_float("random_start", None, "the penalty's, in pixels or values", lower_bound=0),
    flags.DEFINE_enum("lattice", None, warp.LATTICE_RULES, "the warp's derivative at a pixel"),
    flags.DEFINE_enum("gradient_norm", None, regularizers.NORMS, "of the penalized gradient"),
    flags.DEFINE_enum("gradient_at", None, regularizers.GRADIENT_PLACES, "where it is taken"),
    flags.DEFINE_float("epsilon", None, "the training attack's radius, in pixels or values", lower_bound=0),
    flags.DEFINE_integer("attack_steps", None, "of the training attack", lower_bound=1),
    flags.DEFINE_float("clean_fraction", None, "the part of a batch that is not attacked", lower_bound=0),
)
_SCHEDULE_FLAGS = (
    flags.DEFINE_integer("epochs", None, "passes over the training examples", lower_bound=1),
    flags.DEFINE_float("learning_rate", None, "at the start", lower_bound=0),
    flags.DEFINE_float("weight_decay", None, "of the gradient descent", lower_bound=0),
    flags.DEFINE_float("warmup", None, "fraction of the epochs over which penalty and attack rise", 0, 1),
)
_VALIDATION_SIZE = flags.DEFINE_integer("validation_size", 1000, "training images held out", lower_bound=0)
_TRAIN_SIZE = flags.DEFINE_integer("train_size", None, "training images to use; all by default", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "where to save the model, ending in .keras", required=True)
_LOG_DIR = flags.DEFINE_string("logs", None, "where to write TensorBoard's logs and the backup to resume from")
flags.register_validator("output", lambda path: path.endswith(".keras"), "Expected a path that ends in .keras")


def recipe():
    """The method's recipe, with what the flags change."""
    chosen = recipes.get(_METHOD.value, flags.FLAGS.dataset)
    schedule = dataclasses.replace(chosen.schedule, **_given(_SCHEDULE_FLAGS))
    return dataclasses.replace(chosen, schedule=schedule, **_given(_RECIPE_FLAGS))


def _given(holders):
    """`{field: value}` of the flags that were given."""
    fields = {"gradient_norm": "norm", "attack_steps": "steps"}
    return {fields.get(holder.name, holder.name): holder.value for holder in holders if holder.value is not None}


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
    args = flags.FLAGS
    keras.utils.set_random_seed(args.seed)
    os.makedirs(os.path.dirname(os.path.abspath(_OUTPUT.value)), exist_ok=True)
    if _LOG_DIR.value:
        os.makedirs(_LOG_DIR.value, exist_ok=True)
    dataset = datasets.load(
        args.dataset,
        batch_size=args.batch_size,
        data_dir=args.data_dir,
        validation_size=_VALIDATION_SIZE.value,
        train_size=_TRAIN_SIZE.value,
        seed=args.seed,
    )
    network = architectures.build(args.architecture, dataset.image_shape, dataset.num_classes, args.width)
    chosen = recipe()
    print(f"Recipe: {chosen}")
    model = chosen.build(network, args.seed)
    training.compile_model(model, dataset, chosen.schedule, args.batch_size)
    training.fit(model, dataset, chosen.schedule, callbacks(dataset))
    model.save(_OUTPUT.value)
    print(f"Saved {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)

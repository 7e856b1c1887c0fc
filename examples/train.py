r"""Trains a classifier with gradient regularization, and saves it.

    python examples/train.py --dataset=digits --regularizer=flow --weight=55 --output=/tmp/digits.keras
    python examples/train.py --dataset=cifar10 --architecture=vgg11 --width=1 --regularizer=flow --weight=4.4 \
        --epochs=80 --batch_size=128 --learning_rate=0.01 --weight_decay=5e-4 --output=/tmp/cifar10.keras
"""

import os

import keras
from absl import app, flags
from common import architectures, datasets, training
from common.flags import define_dataset_flags, define_model_flags

import keras_flowreg as fr

define_dataset_flags()
define_model_flags()
_REGULARIZER = flags.DEFINE_enum("regularizer", "flow", ["none", "flow", "input"], "whose gradient is penalized")
_WEIGHT = flags.DEFINE_float("weight", 55.0, "of the penalty", lower_bound=0)
_RANDOM_START = flags.DEFINE_float("random_start", 0.25, "standard deviation, in pixels or values", lower_bound=0)
_LATTICE = flags.DEFINE_enum(
    "lattice", "two_sided", ["forward", "backward", "central", "two_sided"], "the warp's derivative at a pixel"
)
_EPOCHS = flags.DEFINE_integer("epochs", 16, "passes over the training examples", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.05, "at the start of the cosine", lower_bound=0)
_WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 0.0, "of the gradient descent", lower_bound=0)
_WARMUP = flags.DEFINE_float("warmup", 0.5, "fraction of the epochs over which the weight rises", 0, 1)
_VALIDATION_SIZE = flags.DEFINE_integer("validation_size", 1000, "training images held out", lower_bound=0)
_TRAIN_SIZE = flags.DEFINE_integer("train_size", None, "training images to use; all by default", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "where to save the model, ending in .keras", required=True)
_LOG_DIR = flags.DEFINE_string("logs", None, "where to write TensorBoard's logs and the backup to resume from")
flags.register_validator("output", lambda path: path.endswith(".keras"), "Expected a path that ends in .keras")


def regularizer():
    """The regularizer that the flags name; `None` for plain training."""
    if _REGULARIZER.value == "none":
        return None
    if _REGULARIZER.value == "input":
        return fr.InputGradientRegularizer(_WEIGHT.value, random_start=_RANDOM_START.value)
    return fr.FlowGradientRegularizer(
        _WEIGHT.value, random_start=_RANDOM_START.value, lattice=_LATTICE.value
    )


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
    model = fr.FlowRegularizedModel(network, regularizer(), seed=args.seed)
    schedule = training.Schedule(
        epochs=_EPOCHS.value,
        learning_rate=_LEARNING_RATE.value,
        weight_decay=_WEIGHT_DECAY.value,
        warmup=_WARMUP.value,
    )
    training.compile_model(model, dataset, schedule, args.batch_size)
    training.fit(model, dataset, schedule, callbacks(dataset))
    model.save(_OUTPUT.value)
    print(f"Saved {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)

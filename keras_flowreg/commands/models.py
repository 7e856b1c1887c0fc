"""Loading a classifier, and asking it."""

import numpy as np
import tensorflow as tf
from absl import flags

import keras_flowreg as fr
from keras_flowreg.types import Images, KerasModel

flags.disclaim_key_flags()  # They are those of the command that calls.


def define_flags(what: str) -> None:
    """--model and --safe_mode."""
    flags.DEFINE_string("model", None, what, required=True)
    flags.DEFINE_bool(
        "safe_mode", True, "whether to refuse a model that may run code; turn it off only for one that you trust"
    )


def load() -> KerasModel:
    """The classifier of the flags."""
    return fr.load_classifier(flags.FLAGS.model, safe_mode=flags.FLAGS.safe_mode)


def predict(model: KerasModel, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Each image's class, and how sure the model is of it."""
    probabilities = tf.nn.softmax(model(images, training=False)).numpy()
    return probabilities.argmax(axis=1), probabilities.max(axis=1)

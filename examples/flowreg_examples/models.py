"""Loading a classifier, and asking it."""

import tensorflow as tf
from absl import flags

import keras_flowreg as fr


def define_flags(what):
    """--model and --safe_mode."""
    flags.DEFINE_string("model", None, what, required=True)
    flags.DEFINE_bool(
        "safe_mode", True, "whether to refuse a model that may run code; turn it off only for one that you trust"
    )


def load():
    """The classifier of the flags."""
    return fr.load_classifier(flags.FLAGS.model, safe_mode=flags.FLAGS.safe_mode)


def predict(model, images):
    """Each image's class, and how sure the model is of it."""
    probabilities = tf.nn.softmax(model(images, training=False)).numpy()
    return probabilities.argmax(axis=1), probabilities.max(axis=1)

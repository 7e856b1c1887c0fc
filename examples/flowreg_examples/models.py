"""Loading a classifier, and asking it."""

import tensorflow as tf
from absl import app

import keras_flowreg as fr


def load(handle):
    """`fr.load_classifier`; what it cannot load is the user's error."""
    try:
        return fr.load_classifier(handle)
    except (OSError, ValueError) as error:
        raise app.UsageError(f"--model: {error}") from error


def predict(model, images):
    """Each image's class, and how sure the model is of it."""
    probabilities = tf.nn.softmax(model(images, training=False)).numpy()
    return probabilities.argmax(axis=1), probabilities.max(axis=1)

"""Loading a classifier to attack, however it was saved."""

import os

import keras
import tensorflow as tf
import tensorflow_hub as hub
from absl import app

import keras_flowreg  # noqa: F401 (a FlowRegularizedModel can only be loaded where it is known)


class SavedClassifier(keras.Model):
    """A SavedModel as a Keras model: images to the first output of its call or serving signature.

    Args:
      handle: path or TF-Hub handle.
    """

    def __init__(self, handle):
        super().__init__()
        # Untracked: Keras does not know what a loaded object is.
        object.__setattr__(self, "_loaded", hub.load(handle))
        if not callable(self._loaded) and "serving_default" not in self._loaded.signatures:
            raise app.UsageError(f"Expected {handle} to be callable or to have a serving signature. Received neither.")

    def call(self, images):
        if callable(self._loaded):
            return self._loaded(images)
        signature = self._loaded.signatures["serving_default"]
        (name,) = signature.structured_input_signature[1]
        return next(iter(signature(**{name: images}).values()))

    def get_weights(self):
        return [variable.numpy() for variable in getattr(self._loaded, "variables", [])]


def load(handle):
    """Loads a `.keras` file, a SavedModel or a TF-Hub handle, with a loss on logits if it has none."""
    is_remote = "://" in handle
    if not is_remote and not os.path.exists(handle):
        raise app.UsageError(f"Expected `--model` to be a saved model. Received {handle}, which does not exist.")
    model = keras.models.load_model(handle) if handle.endswith(".keras") else SavedClassifier(handle)
    if not getattr(model, "loss", None):
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def predict(model, images):
    """Each image's class, and how sure the model is of it."""
    probabilities = tf.nn.softmax(model(images, training=False)).numpy()
    return probabilities.argmax(axis=1), probabilities.max(axis=1)

"""Classifiers as they were saved, of any origin, as Keras models to attack and to evaluate."""

import os
from typing import Union

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg.types import Images, KerasModel, Predictions

_SIGNATURE = "serving_default"


class SavedClassifier(keras.Model):
    """A SavedModel as a Keras model, from images to predictions.

    It calls the SavedModel if that can be called, else its signature `serving_default`. Its weights cannot be
    trained. `load_classifier` makes one, and compiles it.

    Args:
      handle: the path of a SavedModel, or the address of a model of TensorFlow Hub.

    Raises:
      ValueError: if the SavedModel cannot be called, and has no such signature of one input and one output.

    ```python
    fr.export(model, "classifier", overwrite=True)
    predictions = fr.saved_classifier.SavedClassifier("classifier")(images)
    ```
    """

    def __init__(self, handle: Union[str, os.PathLike]):
        super().__init__()
        loaded = _load(os.fspath(handle))
        # Functions, because Keras would track what is loaded, and does not know what it is.
        self._predict, variables = _predictor(loaded, handle)
        self._variables_of_loaded = lambda: variables

    def call(self, images: Images) -> Predictions:
        return self._predict(images)

    def get_weights(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self._variables_of_loaded()]


def load_classifier(handle: Union[str, os.PathLike]) -> KerasModel:
    """Loads a classifier to attack or to evaluate.

    A classifier that was saved without a loss is compiled with the cross-entropy of logits and class indices.
    Compile it again if its outputs are probabilities, or its labels one-hot.

    Args:
      handle: a `.keras` file, the path of a SavedModel, or the address of a model of TensorFlow Hub, with "://",
        which needs `tensorflow_hub`.

    Returns:
      A compiled `keras.Model`.

    Raises:
      FileNotFoundError: if there is nothing at the path.
      ImportError: if `handle` is an address, and `tensorflow_hub` is not installed.
      ValueError: if a SavedModel cannot be called, and has no signature of one input and one output.

    ```python
    fr.export(model, "classifier", overwrite=True)
    classifier = fr.load_classifier("classifier")
    adversarial_images = fr.attacks.FlowPGD(epsilon=0.4, steps=5)(images, labels, model=classifier)
    ```
    """
    handle = os.fspath(handle)
    if not _is_address(handle) and not os.path.exists(handle):
        raise FileNotFoundError(f"Expected a saved classifier. Received {handle}, which does not exist.")
    model = keras.models.load_model(handle) if handle.endswith(".keras") else SavedClassifier(handle)
    if not getattr(model, "loss", None):
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def _is_address(handle):
    return "://" in handle


def _load(handle):
    if not _is_address(handle):
        return tf.saved_model.load(handle)
    try:
        import tensorflow_hub
    except ImportError as error:
        raise ImportError(f"Expected tensorflow_hub to be installed, to load {handle}. Received {error}.") from error
    return tensorflow_hub.load(handle)


def _predictor(loaded, handle):
    """A function from images to predictions, and the variables that it reads."""
    if callable(loaded):
        return loaded.__call__, getattr(loaded, "variables", [])
    signature = getattr(loaded, "signatures", {}).get(_SIGNATURE)
    if signature is None:
        raise ValueError(
            f"Expected {handle} to be callable, or to have the signature {_SIGNATURE!r}. Received neither."
        )
    inputs, outputs = sorted(signature.structured_input_signature[1]), sorted(signature.structured_outputs)
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"Expected the signature {_SIGNATURE!r} of {handle} to have one input and one output. "
            f"Received the inputs {inputs} and the outputs {outputs}."
        )
    return lambda images: signature(**{inputs[0]: images})[outputs[0]], signature.variables

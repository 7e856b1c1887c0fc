"""Classifiers as they were saved, of any origin, as Keras models to attack and to evaluate."""

import functools
import json
import os
import re
import zipfile
from typing import Union

import h5py
import keras
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_flowreg import files, untrusted
from keras_flowreg.ops.validation import expect_boolean
from keras_flowreg.types import Images, KerasModel, Predictions
from keras_flowreg.wrapped import Restored, classifier_of

_SIGNATURE = "serving_default"
_OWN_CLASS = " A class of your own must be imported, and registered by `keras.saving.register_keras_serializable`."


class SavedClassifier(Restored, keras.Model):
    """A SavedModel as a Keras model, from images to predictions.

    It calls the SavedModel if that can be called, else its signature `serving_default`. Its weights cannot be
    trained. `load_classifier` makes one, and compiles it.

    Args:
      handle: the path of a SavedModel, or the address of a model of TensorFlow Hub.
      safe_mode: whether to refuse one that reads or writes files.

    Attributes:
      gives_probabilities: whether its signature names its output so.
      image_shape: `(height, width, channels)` of the images that it takes, with `None` for what is not known.

    Raises:
      ValueError: if the SavedModel cannot be called, and has no such signature of one input and one output, or is refused.

    ```python
    fr.export(model, "classifier", overwrite=True)
    predictions = fr.saved_classifier.SavedClassifier("classifier")(images)
    ```
    """

    def __init__(self, handle: Union[str, os.PathLike], *, safe_mode: bool = True):
        super().__init__()
        loaded = _load(os.fspath(handle), safe_mode)
        self._predict = _predictor(loaded, handle)
        self.gives_probabilities = _names_probabilities(loaded)
        self.image_shape = _image_shape_of(loaded)
        # A function, because Keras would track what is loaded, and does not know what it is. It also keeps it alive.
        self._variables_of_loaded = lambda: list(_variables_of(loaded))

    def call(self, images: Images) -> Predictions:
        return self._predict(images)

    def restored_variables(self) -> list[tf.Variable]:
        return self._variables_of_loaded()

    def get_weights(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.restored_variables()]


def load_classifier(handle: Union[str, os.PathLike], *, safe_mode: bool = True) -> KerasModel:
    """Loads a classifier to attack or to evaluate.

    A classifier that was saved without a loss is compiled with the cross-entropy of class indices and of what its last
    layer gives: probabilities of a softmax, or of an export that names them so, and otherwise logits. Compile it again if
    its labels are one-hot.

    Args:
      handle: a `.keras`, `.h5` or `.hdf5` file, the path of a SavedModel, or the address of a model of TensorFlow Hub,
        with "://", which needs `tensorflow_hub`.
      safe_mode: whether to refuse a file that may run code of its own, such as a `Lambda` layer; see `untrusted`. Turn it
        off only for files that you trust.

    Returns:
      A compiled `keras.Model`.

    Raises:
      FileNotFoundError: if there is nothing at the path.
      ImportError: if `handle` is an address, and `tensorflow_hub` is not installed.
      ValueError: if it cannot be loaded, may run code, has weights that are not finite, or is a SavedModel that cannot be
        called and has no signature of one input and one output.

    ```python
    fr.export(model, "classifier", overwrite=True)
    classifier = fr.load_classifier("classifier")
    adversarial_images = fr.attacks.FlowPGD(epsilon=0.4, steps=5)(images, labels, model=classifier)
    ```
    """
    handle, safe_mode = files.as_path("handle", handle), expect_boolean("safe_mode", safe_mode)
    if not _is_address(handle) and not os.path.exists(handle):
        raise FileNotFoundError(f"Expected a saved classifier. Received {handle}, which does not exist.")
    is_saved_model = _is_address(handle) or os.path.isdir(handle)
    model = SavedClassifier(handle, safe_mode=safe_mode) if is_saved_model else _load_file(handle, safe_mode)
    if not all(np.isfinite(weights).all() for weights in model.get_weights() if weights.dtype.kind == "f"):
        raise ValueError(f"Expected a classifier of finite weights. Received NaN or infinity among those of {handle}.")
    if not getattr(model, "loss", None):
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=not _gives_probabilities(model)))
    return model


def _load_file(path, safe_mode):
    """A Keras model of a file. What Keras cannot load is an error of one line."""
    kind = ".keras" if zipfile.is_zipfile(path) else ".h5" if h5py.is_hdf5(path) else ""
    endings = {".keras": (".keras",), ".h5": (".h5", ".hdf5")}.get(kind, ())
    if not path.endswith(endings or (" ",)):
        name = {".keras": "a Keras file", ".h5": "an HDF5 file"}.get(kind, "another or a damaged file")
        raise ValueError(f"Expected {path} to be a .keras, .h5 or .hdf5 file, as its name says. Received {name}.")
    try:
        if safe_mode:
            untrusted.expect_no_code(path)
        return keras.models.load_model(path, safe_mode=safe_mode) if kind == ".keras" else _load_hdf5(path, safe_mode)
    except Exception as error:  # Whatever a damaged file leads to.
        first_line = str(error).strip().partition("\n")[0]
        if first_line.startswith("Expected"):
            raise ValueError(first_line) from error
        if "No model config" in first_line:
            raise ValueError(
                f"Expected {path} to be a whole classifier. Received its weights alone: build the model, load them by "
                "`model.load_weights`, and save it or take it as it is."
            ) from error
        advice = _OWN_CLASS if re.search("deserializ|locate class|Unknown", str(error)) else ""
        unknown_class = re.search("Could not locate class '.+?'", str(error))
        reason = f"{unknown_class.group()}." if unknown_class else first_line
        raise ValueError(
            f"Expected {path} to be a classifier that this Keras can load. Received {type(error).__name__}: {reason}{advice}"
        ) from error


def _load_hdf5(path, safe_mode):
    """A Keras model of an HDF5 file. Its optimizer may be of another Keras, whose options are not known here."""
    try:
        return keras.models.load_model(path, safe_mode=safe_mode)
    except (ValueError, TypeError):
        model = keras.models.load_model(path, safe_mode=safe_mode, compile=False)
    with h5py.File(path, "r") as file:
        loss = json.loads(file.attrs.get("training_config", "{}")).get("loss")
    if loss:
        model.compile(loss=keras.losses.get(loss))
    return model


def _gives_probabilities(model):
    """Whether a model is known to give probabilities: by its last layer, or as `fr.export` names its outputs."""
    if isinstance(model, SavedClassifier):
        return model.gives_probabilities
    last = _last_layer(classifier_of(model))
    return isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax


def _last_layer(model):
    """The last layer that computes anything: in mixed precision a linear one may follow, for its dtype."""
    while getattr(model, "layers", None):
        model = next((layer for layer in reversed(model.layers) if not _is_linear(layer)), None)
    return model


def _is_linear(layer):
    return isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear


def _is_address(handle):
    return "://" in handle


def _load(handle, safe_mode):
    if _is_address(handle):
        try:
            import tensorflow_hub
        except ImportError as error:
            raise ImportError(
                f"Expected tensorflow_hub to be installed, to load {handle}. Received {error}."
            ) from error
        handle = tensorflow_hub.resolve(handle)
    try:
        if safe_mode:
            untrusted.expect_no_code(handle)
        return tf.saved_model.load(handle)
    except (OSError, DecodeError, KeyError, tf.errors.OpError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"Expected {handle} to be a SavedModel. Received {type(error).__name__}: {first_line}"
        ) from error


def _names_probabilities(loaded):
    """Whether the outputs of a SavedModel's signature are called probabilities."""
    signature = _signature_of(loaded)
    return signature is not None and "probabilities" in signature.structured_outputs


def _signature_of(loaded):
    """The signature of a SavedModel for serving, or `None`."""
    return getattr(loaded, "signatures", {}).get(_SIGNATURE)


def _predictor(loaded, handle):
    """A function from images to predictions."""
    signature = _signature_of(loaded)
    if callable(loaded):
        return _casting(loaded.__call__, signature)
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
    return _casting(lambda images: signature(**{inputs[0]: images})[outputs[0]], signature)


def _image_shape_of(loaded):
    """What the inputs of its signature and of all that can be called have in common."""
    specs = [_only_input(_signature_of(loaded))]
    for function in getattr(loaded.__call__, "concrete_functions", ()) if callable(loaded) else ():
        arguments = tf.nest.flatten(function.structured_input_signature)
        specs.append(next((spec for spec in arguments if isinstance(spec, tf.TensorSpec)), None))
    shapes = [spec.shape for spec in specs if spec is not None]
    shape = functools.reduce(tf.TensorShape.most_specific_compatible_shape, shapes, shapes[0]) if shapes else None
    return tuple(shape[1:]) if shape is not None and shape.rank == 4 else (None, None, None)


def _only_input(signature):
    """The `tf.TensorSpec` of a signature's input; `None` of no signature, or of one of several inputs."""
    specs = [] if signature is None else list(signature.structured_input_signature[1].values())
    return specs[0] if len(specs) == 1 else None


def _variables_of(loaded):
    """The variables that a SavedModel reads: those that it lists, or else those of its functions."""
    if hasattr(loaded, "variables"):
        return loaded.variables
    functions = loaded.__call__.concrete_functions if callable(loaded) else [_signature_of(loaded)]
    return list({id(variable): variable for function in functions for variable in function.variables}.values())


def _casting(predict, signature):
    """The function for images of any dtype: they are cast to the one of the signature, if there is one of one input."""
    spec = _only_input(signature)
    if spec is None:
        return predict
    dtype = spec.dtype

    def predict_cast(images):
        images = tf.convert_to_tensor(images)
        return predict(tf.cast(tf.round(images) if dtype.is_integer else images, dtype))

    return predict_cast

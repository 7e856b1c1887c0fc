"""What runs code when a saved model is loaded or called: found before it is loaded."""

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from typing import Any, Union

import h5py
import keras

from keras_flowreg.reaching_out import reaching_operations

# Keras's classes that hold a program, or load one from elsewhere.
_PROGRAMS = {"Lambda", "__lambda__", "TFSMLayer", "KerasLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
# TensorFlow's functions that Keras 2 calls by name for the operations of a functional model.
_NAMESPACES = {"math", "nn", "linalg", "image", "signal", "__operators__"}
_FUNCTIONS = [
    "broadcast_to",
    "cast",
    "clip_by_value",
    "concat",
    "convert_to_tensor",
    "einsum",
    "expand_dims",
    "fill",
    "gather",
    "identity",
    "matmul",
    "one_hot",
    "ones",
    "ones_like",
    "pad",
    "repeat",
    "reshape",
    "reverse",
    "roll",
    "shape",
    "slice",
    "split",
    "squeeze",
    "stack",
    "stop_gradient",
    "tensordot",
    "tile",
    "transpose",
    "unstack",
    "where",
    "zeros",
    "zeros_like",
]
# Whose classes are only layers, losses and the like.
_TRUSTED_PACKAGES = {"keras", "keras_flowreg", "tensorflow_addons"}


def expect_no_code(path: Union[str, os.PathLike]) -> None:
    """Checks that a `.keras` file, an HDF5 file or a SavedModel runs no code of its own.

    Layers of Keras, of this library, and registered ones may be in it; a `Lambda` layer, an object of another module and
    an operation that reaches out of TensorFlow, to files for instance, may not.

    ```python
    model.save("model.keras")
    fr.untrusted.expect_no_code("model.keras")
    ```

    Raises:
      ValueError: if it may.
    """
    if os.path.isdir(path):
        found = reaching_operations(path)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found = _programs(json.loads(archive.read("config.json")))
    else:
        with h5py.File(path, "r") as file:
            configs = [file.attrs[name] for name in ("model_config", "training_config") if name in file.attrs]
        found = (program for config in configs for program in _programs(json.loads(config)))
    first = next(iter(found), None)
    if first is not None:
        raise ValueError(
            f"Expected {os.fspath(path)} to run no code of its own, since safe_mode is on. Received one with {first}: load "
            "it with safe_mode=False if you trust where it comes from."
        )


def _programs(config: Any) -> Iterator[str]:
    """What may run code in a Keras configuration, in words."""
    if isinstance(config, dict) and "class_name" in config:
        program = _program(config["class_name"], config.get("module"), config)
        if program is not None:
            yield program
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _programs(part)


def _program(name, module, config):
    """The same for one object of it, or `None`."""
    inner = config.get("config")
    if name in _PROGRAMS:
        return f"a {name}"
    if name == "TFOpLambda":
        function = str(inner.get("function")) if isinstance(inner, dict) else str(inner)
        return None if _is_arithmetic(function) else f"a call of tf.{function}"
    if not module or str(module).split(".")[0] in _TRUSTED_PACKAGES:
        return None
    registered = inner if name == "function" else config.get("registered_name")
    if keras.saving.get_registered_object(registered) is not None or _is_imported_class(module, name):
        return None
    return f"{module}.{inner if name == 'function' else name}"


def _is_arithmetic(function):
    namespace, _, rest = function.rpartition(".")
    return function in _FUNCTIONS if not namespace else namespace in _NAMESPACES and bool(rest)


def _is_imported_class(module, name):
    """Whether a class is one of Keras's kind, in a module that is loaded already."""
    found = getattr(sys.modules.get(module), str(name), None)
    return isinstance(found, type) and hasattr(found, "get_config")

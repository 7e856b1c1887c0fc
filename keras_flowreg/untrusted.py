"""What runs code when a saved model is loaded or called: found before it is loaded."""

import builtins
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from typing import Any, Union

import h5py
import keras

from keras_flowreg.reaching_out import reaching_operations

# Keras's classes that hold a program, load one from elsewhere, or call what is named in their configuration.
_PROGRAMS = {
    *("Lambda", "__lambda__", "TFSMLayer", "KerasLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("ClassMethod", "InstanceMethod", "InstanceProperty", "TensorFlowOpLayer", "SavedClassifier"),
}
_CALLS = {"TFOpLambda", "SlicingOpLambda"}  # of TensorFlow's functions, by name
# Those functions that a functional model's operations may be.
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
# What is in Keras's modules of these names only computes.
_OF_FUNCTIONS = {"activations", "constraints", "initializers", "losses", "metrics", "regularizers"}
_OF_CLASSES = {
    *_OF_FUNCTIONS,
    *("dtype_policies", "engine", "layers", "mixed_precision", "models", "ops", "optimizers", "quantizers", "random"),
}
# Whose classes are only layers, losses and the like.
_PACKAGES_OF_LAYERS = {"keras_flowreg", "tensorflow_addons"}


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
    names = _names(name, config.get("registered_name"))
    programs = names & _PROGRAMS
    if programs:
        return f"a {min(programs)}"
    if names & _CALLS:
        function = str(inner.get("function")) if isinstance(inner, dict) else str(inner)
        return None if _is_arithmetic(function) else f"a call of tf.{function}"
    is_function = name == "function"
    if (not module and not is_function) or _only_computes(str(module), is_function):
        return None
    if is_function and module == "builtins" and _is_known_function(str(inner)):
        return None
    registered = inner if is_function else config.get("registered_name")
    if keras.saving.get_registered_object(registered) is not None:
        return None
    if not is_function and _is_imported_class(module, name):
        return None
    return f"{module}.{inner if is_function else name}"


def _names(*names):
    """The names that Keras may find a class by: Keras 2 looks for either in the module, and behind a package or a dot."""
    return {re.split("[.>]", str(name))[-1] for name in names}


def _only_computes(module, is_function):
    """Whether a module is known to hold nothing but layers, losses and the like."""
    package, *parts = module.split(".")
    if package != "keras":
        return package in _PACKAGES_OF_LAYERS and not is_function
    if is_function:
        return bool(_OF_FUNCTIONS & set(parts))
    return not set(parts) - {"src"} or bool(_OF_CLASSES & set(parts))


def _is_arithmetic(function):
    namespace, _, rest = function.rpartition(".")
    return function in _FUNCTIONS if not namespace else namespace in _NAMESPACES and bool(rest)


def _is_known_function(name):
    """Whether a name is that of one of Keras's losses and the like, or of a registered function, without its package.

    Nothing in Python itself may have the name, where Keras looks, too.
    """
    kinds = (getattr(keras, kind, None) for kind in _OF_FUNCTIONS)
    registered = (key.split(">")[-1] for key in keras.saving.get_custom_objects())
    return not hasattr(builtins, name) and (name in registered or any(hasattr(kind, name) for kind in kinds))


def _is_imported_class(module, name):
    """Whether a class is one of Keras's kind, in a module that is loaded already."""
    found = getattr(sys.modules.get(module), str(name), None)
    return isinstance(found, type) and hasattr(found, "get_config")

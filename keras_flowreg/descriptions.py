"""What an option is, in plain values: what does something else is described otherwise, so that a record tells it apart."""

import functools
import inspect
import math
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_flowreg.ops.losses import name_of
from keras_flowreg.types import LossFunction

_DEPTH = 5  # of objects within objects
_MOST_NUMBERS = 100  # that are written out
_KNOWN = ("keras", "tensorflow", "tensorflow_addons", "keras_flowreg")  # A name says what their functions do.


def described(value: Any, depth: int = _DEPTH) -> Any:
    """A value as strings, numbers, bools, `None`, lists and dictionaries.

    Large arrays and functions of one's own become checksums: a function's is of its code, its defaults and the values that it
    has from around it, but not of what it calls. Objects are their class, with their configuration or else their attributes.

    ```python
    from keras_flowreg.descriptions import described

    print(described((1.0, np.array([2, 3]), keras.losses.Hinge().name)))  # [1.0, [2, 3], 'hinge']
    ```

    Args:
      value: anything.
      depth: how many objects to look into, of those within each other.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": len(value), "checksum": _checksum(value)}
    value = getattr(value, "python_function", value)  # of a tf.function
    if isinstance(value, (tf.Tensor, tf.Variable)):
        value = value.numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        return _array(np.asarray(value))
    if isinstance(value, type) or not depth:
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, Mapping):
        return {str(key): described(entry, depth - 1) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(entry, depth - 1) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted((described(entry, depth - 1) for entry in value), key=repr)
    if isinstance(value, functools.partial):
        return [described(each, depth - 1) for each in (value.func, value.args, value.keywords)]
    if inspect.isroutine(value):
        return _function(value, depth - 1)
    return {"class": type(value).__name__, **described(_attributes(value), depth - 1)}


def described_loss(loss: LossFunction) -> dict[str, Any]:
    """A loss by its name, and its options that are set."""
    is_function = inspect.isroutine(loss) or isinstance(loss, functools.partial) or hasattr(loss, "python_function")
    function = loss if is_function else getattr(loss, "fn", None)
    own = {} if function is None or _is_known(function) else {"function": function}
    # Keras 2 tells the function's name, too, but only in the thread that has imported it.
    options = {} if is_function else {name: value for name, value in _attributes(loss).items() if name != "fn"}
    decisive = {name: value for name, value in {**options, **own}.items() if value is not None}
    return {"loss": name_of(loss), "loss_options": {**described(decisive), "name": name_of(loss)}}


def _attributes(value):
    """The configuration of an object, and the attributes of one whose class is of one's own."""
    config = value.get_config() if hasattr(value, "get_config") else {}
    return config if config and _is_known(type(value)) else {**getattr(value, "__dict__", {}), **config}


def _is_known(code):
    """Whether a class or function is one of Keras, TensorFlow or this library."""
    return (getattr(code, "__module__", None) or "").split(".")[0] in _KNOWN


def _array(array):
    if array.size <= _MOST_NUMBERS:
        return described(array.tolist(), array.ndim + 1)
    return {"shape": list(array.shape), "checksum": _checksum(np.ascontiguousarray(array).tobytes())}


def _function(function, depth):
    name = getattr(function, "__qualname__", str(function))
    code = getattr(function, "__code__", None)
    if code is None or _is_known(function):
        return name
    around = [cell.cell_contents for cell in function.__closure__ or ()]
    values = described(
        [function.__defaults__, function.__kwdefaults__, around, getattr(function, "__self__", None)], depth
    )
    return {"function": name, "checksum": _checksum(repr([_code(code), values]).encode())}


def _code(code):
    """What a function's code does, without where it stands."""
    constants = [_code(each) if inspect.iscode(each) else repr(each) for each in code.co_consts]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames]


def _checksum(content):
    return f"{zlib.crc32(content):08x}"

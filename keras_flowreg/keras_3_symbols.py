"""TensorFlow's functions on the symbolic tensors of Keras 3, which by itself takes them for its own operations alone."""

import contextlib
import contextvars
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from keras.src.layers import layer
from keras.src.ops.node import Node
from tensorflow.python.util import dispatch
from tensorflow.python.util.tf_export import get_canonical_name_for_symbol

_ARITHMETIC = ("add", "sub", "mul", "truediv", "pow")
_OPERATORS = [f"__{side}{name}__" for name in _ARITHMETIC for side in ("", "r")]
_numbers = itertools.count()
_is_taken = contextvars.ContextVar("is_taken", default=False)


class TensorFlowOperation(keras.Operation):
    """A function of TensorFlow as an operation of a graph, as Keras 2 has it. Its symbolic tensors have a known shape."""

    def __init__(self, function: Callable[..., Any], symbol: str):
        super().__init__(name=f"tf.{symbol}_{next(_numbers)}")  # Keras asks that a graph has each name once.
        self.call = function
        self.symbol = symbol

    def compute_output_spec(self, *arguments: Any, **named: Any) -> Any:
        outputs = self.call(*_map(_black, arguments), **_map(_black, named))
        return _map(
            lambda each: keras.KerasTensor(each.shape, each.dtype.name) if tf.is_tensor(each) else each, outputs
        )


@contextlib.contextmanager
def taken_by_tensorflow() -> Iterator[None]:
    """In this scope, TensorFlow's functions take symbolic tensors, and these take numbers as TensorFlow's tensors do.

    A layer may give `None` among its outputs.
    """
    token = _is_taken.set(True)
    changes = {name: _with_numbers_of_its_dtype(getattr(keras.KerasTensor, name)) for name in _OPERATORS}
    changes["__array_ufunc__"] = None  # NumPy leaves what is on its right to these operators.
    try:
        with contextlib.ExitStack() as stack:
            for name, change in changes.items():
                stack.enter_context(mock.patch.object(keras.KerasTensor, name, change, create=True))
            stack.enter_context(mock.patch.object(layer, "Node", _node_of_tensors))
            yield
    finally:
        _is_taken.reset(token)


def _node_of_tensors(*arguments, outputs, **named):
    """A node of a graph, of the tensors among what a layer gives."""
    return Node(*arguments, outputs=[each for each in keras.tree.flatten(outputs) if each is not None], **named)


def _with_numbers_of_its_dtype(operator):
    """An operator of symbolic tensors for which NumPy's numbers of double precision are no reason to go over to it."""

    def operate(tensor, other):
        is_of_numpy = isinstance(other, (np.generic, np.ndarray)) and other.dtype == np.float64
        return operator(tensor, other.astype(tensor.dtype) if is_of_numpy else other)

    return operate


class _Dispatcher(dispatch.GlobalOpDispatcher):
    """Is asked about what TensorFlow's functions have refused."""

    def handle(self, op: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if not _is_taken.get() or not any(map(_is_symbol, tf.nest.flatten((args, kwargs)))):
            return self.NOT_SUPPORTED
        symbol = get_canonical_name_for_symbol(op) or op.__name__
        if symbol == "shape":  # It is known, as in `keras.ops.shape`.
            return op(*_map(_black, args), **_map(_black, kwargs))
        return TensorFlowOperation(op, symbol)(*args, **kwargs)


_Dispatcher().register()


def _is_symbol(value):
    return isinstance(value, keras.KerasTensor)


def _black(value):
    return tf.zeros(value.shape, value.dtype) if _is_symbol(value) else value


def _map(function, values):
    return tf.nest.map_structure(function, values)

"""Checks that what a rule calls linear is so: a wrong rule would prove what is not true."""

from collections.abc import Callable, Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.windows import Sliding

_DRAWS = 8
_TOLERANCE = 1e-4

Function = Callable[..., tf.Tensor]
Transpose = Callable[[tf.Tensor, Sequence[Sequence[int]]], list[tf.Tensor]]


def expect_linear(function: Function, absolute: Function, shapes: Sequence[Sequence[int]], name: str) -> None:
    """Checks that a function is linear, without a constant, and which of its weights are negative.

    Args:
      function: of one tensor for each input.
      absolute: the function with the absolute value of each weight.
      shapes: of each input, without the batch.
      name: that of the layer.

    Raises:
      ValueError: if it has a constant, is not additive, or `absolute` has other weights.
    """
    constant = tf.reduce_max(tf.abs(function(*(tf.zeros([1, *shape]) for shape in shapes))))
    if constant > 0:
        raise ValueError(
            "Expected a `Linear` whose function gives zeros for zeros, and whose constant is its `offset`. "
            f"Received a function that gives {constant:g}, by the rule of {name}."
        )
    if not (_is_within_sizes(function, absolute, shapes) and _are_weights_within_sizes(function, absolute, shapes)):
        raise ValueError(
            "Expected a `Linear` with `absolute`, its function with the absolute value of each weight, where one is "
            f"negative. Received a function that exceeds it, by the rule of {name}."
        )
    if not _is_additive(function, absolute, shapes):
        raise ValueError(
            "Expected a `Linear` whose function gives for a difference of inputs the difference of what it gives for each. "
            f"Received another, by the rule of {name}: `Smooth`, or a step of your own, is for what is not linear."
        )


def expect_transposed(
    function: Function,
    absolute: Function,
    transpose: Transpose,
    shapes: Sequence[Sequence[int]],
    sliding: Optional[Sliding],
    name: str,
) -> None:
    """Checks that a map is the transposed one of a linear function: Σ c · f(x) = Σ fᵀ(c) · x.

    Args:
      function: of one tensor for each input.
      absolute: the function with the absolute value of each weight.
      transpose: of coefficients of the output, and of the inputs' shapes, to a list of coefficients of the inputs.
      shapes: of each input, without the batch.
      sliding: how the function slides over images, if it does: the coefficients are of the pixels that its outputs see.
      name: that of the layer.

    Raises:
      ValueError: if it is not.
    """
    inputs = _random(shapes, seed=0)
    outputs = function(*inputs)
    (coefficients,) = _random([outputs.shape[1:]], seed=2)
    are_images = {len(shape) for shape in shapes} == {3} and len({tuple(shape[:2]) for shape in shapes}) == 1
    seen = [sliding.seen(each, outputs.shape[1:3]) for each in inputs] if sliding and are_images else inputs
    parts = transpose(coefficients, [each.shape[1:] for each in seen])
    found = sum(tf.reduce_sum(part * each) for part, each in zip(parts, seen))
    size = tf.reduce_sum(tf.abs(coefficients) * absolute(*map(tf.abs, inputs)))
    if not abs(found - tf.reduce_sum(coefficients * outputs)) <= _TOLERANCE * size + _TOLERANCE**2:
        raise ValueError(
            "Expected a `Linear` whose derivative is its own, or whose `transpose` is that of its function. Received another, "
            f"by the rule of {name}: it may stop a gradient, or turn it around."
        )


def _is_within_sizes(function, absolute, shapes):
    """Whether all outputs are, for random inputs."""
    values = _random(shapes, seed=0)
    return _is_below(function(*values), absolute(*map(tf.abs, values)))


def _is_additive(function, absolute, shapes):
    """Whether it is, for random inputs, but for rounding."""
    first, second = _random(shapes, seed=0), _random(shapes, seed=1)
    difference = function(*(one - other for one, other in zip(first, second)))
    error = tf.abs(difference - (function(*first) - function(*second)))
    terms = absolute(*(tf.abs(one) + tf.abs(other) for one, other in zip(first, second)))
    return bool(tf.reduce_all(error <= _TOLERANCE * tf.abs(terms) + _TOLERANCE**2))


def _are_weights_within_sizes(function, absolute, shapes):
    """Whether all weights of some outputs are."""
    inputs = [tf.zeros([_DRAWS, *shape]) for shape in shapes]
    weights, sizes = (_weights(each, inputs) for each in (function, absolute))
    return all(_is_below(*pair) for pair in zip(weights, sizes))


def _weights(function, inputs):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = tf.reshape(function(*inputs), [_DRAWS, -1])
        chosen = np.random.RandomState(0).randint(outputs.shape[1], size=_DRAWS)
        outputs = tf.gather(outputs, chosen, batch_dims=1)
    return tape.gradient(outputs, inputs, unconnected_gradients="zero")


def _is_below(values, sizes):
    return bool(tf.reduce_all(tf.abs(values) <= sizes + _TOLERANCE * tf.abs(sizes) + _TOLERANCE**2))


def _random(shapes, seed):
    """Numbers between -1 and 1, for each input."""
    random = np.random.RandomState(seed)
    return [tf.constant(random.uniform(-1, 1, [_DRAWS, *shape]), tf.float32) for shape in shapes]

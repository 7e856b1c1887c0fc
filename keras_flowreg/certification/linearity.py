"""Checks that what a rule calls linear is so: a wrong rule would prove what is not true."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

_DRAWS = 8
_TOLERANCE = 1e-4

Function = Callable[..., tf.Tensor]


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


def _random(shapes, seed):
    """Numbers between -1 and 1, for each input."""
    random = np.random.RandomState(seed)
    return [tf.constant(random.uniform(-1, 1, [_DRAWS, *shape]), tf.float32) for shape in shapes]


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

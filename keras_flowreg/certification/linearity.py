"""Checks that what a rule calls linear is so: a wrong rule would prove what is not true."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

_DRAWS = 8
_TOLERANCE = 1e-4

Function = Callable[..., tf.Tensor]


def expect_linear(function: Function, absolute: Function, shapes: Sequence[Sequence[int]], name: str) -> None:
    """Checks that a function has no constant, and which of its weights are negative.

    Args:
      function: of one tensor for each input.
      absolute: the function with the absolute value of each weight.
      shapes: of each input, without the batch.
      name: that of the layer.

    Raises:
      ValueError: if it has a constant, or `absolute` has other weights.
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


def _is_within_sizes(function, absolute, shapes):
    """Whether all outputs are, for random inputs."""
    random = np.random.RandomState(0)
    sizes = [tf.constant(random.rand(_DRAWS, *shape), tf.float32) for shape in shapes]
    values = [size * random.choice([-1.0, 1.0], size.shape) for size in sizes]
    return _is_below(function(*values), absolute(*sizes))


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

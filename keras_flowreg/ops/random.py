"""Seeded draws that are the same in eager mode, in a graph and under XLA.

TensorFlow's own stateless floats are not: XLA makes other floats of the same random bits. The bits are the same
everywhere, so the floats are made of them here.
"""

import math
from collections.abc import Sequence
from typing import Union

import tensorflow as tf

from keras_flowreg.ops.validation import as_scalar
from keras_flowreg.types import Number, Seed

Shape = Union[tf.Tensor, Sequence[int]]

_ALGORITHM = "philox"
_BITS = 24  # of a float32's fraction
_LARGEST = 1 - 2.0 ** (1 - _BITS)


def uniform(shape: Shape, seed: Seed, low: Number = 0.0, high: Number = 1.0) -> tf.Tensor:
    """Uniform draws between two numbers: a float32 tensor of a shape. The seed is two integers."""
    bits = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg=_ALGORITHM)
    whole = tf.bitwise.right_shift(bits, tf.constant(32 - _BITS, tf.uint32))
    width = as_scalar(high - low, tf.float32)
    return as_scalar(low, tf.float32) + width * (tf.cast(whole, tf.float32) + 0.5) * 2.0**-_BITS


def normal(shape: Shape, seed: Seed, stddev: float = 1.0) -> tf.Tensor:
    """Normal draws around zero: a float32 tensor of a shape. The seed is two integers."""
    # Rounding may give a 1, whose inverse is infinite.
    inside = tf.clip_by_value(uniform(shape, seed, -1.0, 1.0), -_LARGEST, _LARGEST)
    return stddev * math.sqrt(2) * tf.math.erfinv(inside)


def fold_in(seed: Seed, number: Union[int, tf.Tensor]) -> tf.Tensor:
    """The seed of one part, replica or restart among many: two integers."""
    return tf.random.experimental.stateless_fold_in(seed, number, alg=_ALGORITHM)

"""Seeded draws that are the same in eager mode, in a graph and under XLA.

TensorFlow's own stateless floats are not: XLA makes other floats of the same random bits. The bits are the same
everywhere, so the floats are made of them here.
"""

import math

import tensorflow as tf

_ALGORITHM = "philox"
_BITS = 24  # of a float32's fraction


def uniform(shape, seed, low=0.0, high=1.0):
    """Uniform draws between `low` and `high`, float32 of `shape`; `seed` is `[2]` integers."""
    bits = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg=_ALGORITHM)
    whole = tf.bitwise.right_shift(bits, tf.constant(32 - _BITS, tf.uint32))
    return low + (high - low) * (tf.cast(whole, tf.float32) + 0.5) * 2.0**-_BITS


def normal(shape, seed, stddev=1.0):
    """Normal draws around zero, float32 of `shape`; `seed` is `[2]` integers."""
    return stddev * math.sqrt(2) * tf.math.erfinv(uniform(shape, seed, -1.0, 1.0))


def fold_in(seed, number):
    """The seed of one part, replica or restart among many: `[2]` integers."""
    return tf.random.experimental.stateless_fold_in(seed, number, alg=_ALGORITHM)

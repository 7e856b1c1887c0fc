"""Intervals: for each value of a tensor, the least and the greatest that it can be."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf


class Interval(NamedTuple):
    """The least and the greatest that each value of a tensor can be.

    ```python
    interval = fr.certification.Interval(low=images - 0.1, high=images + 0.1)
    print(interval.center.shape, interval.radius.shape)
    ```
    """

    low: tf.Tensor
    high: tf.Tensor

    @property
    def center(self) -> tf.Tensor:
        """The middle of each interval."""
        return (self.low + self.high) / 2

    @property
    def radius(self) -> tf.Tensor:
        """Half of the width of each interval."""
        return (self.high - self.low) / 2

    @property
    def largest(self) -> tf.Tensor:
        """The largest absolute value in each interval, over the whole batch: `[1, ...]`."""
        return tf.reduce_max(tf.maximum(tf.abs(self.low), tf.abs(self.high)), axis=0, keepdims=True)

    def widened(self, by: tf.Tensor) -> "Interval":
        """The interval, and as much more at each end."""
        return Interval(self.low - by, self.high + by)

    def without_nan(self) -> "Interval":
        """The interval, where what has overflowed, and is NaN, can be any number."""
        infinity = tf.constant(float("inf"), self.low.dtype)
        return Interval(
            *(tf.where(tf.math.is_nan(end), each, end) for end, each in ((self.low, -infinity), (self.high, infinity)))
        )

    def intersect(self, other: "Interval") -> "Interval":
        """What lies in both. Both hold the true value, so they meet, but for rounding."""
        low, high = tf.maximum(self.low, other.low), tf.minimum(self.high, other.high)
        return Interval(tf.minimum(low, high), tf.maximum(low, high))

    def nearest(self, number: float) -> tf.Tensor:
        """The number itself where it lies in the interval, and else the nearer end."""
        return tf.minimum(tf.maximum(self.low, number), self.high)

    def minimum(self, coefficients: tf.Tensor) -> tf.Tensor:
        """The least that Σ coefficients · value can be, over all axes but the first: `[batch, ...]` to `[batch]`."""
        positive = tf.nn.relu(coefficients)
        return sum_per_example(positive * self.low + (coefficients - positive) * self.high)

    @staticmethod
    def joined(intervals: Sequence["Interval"]) -> "Interval":
        """Those of several batches as one."""
        return Interval(*(tf.concat(ends, axis=0) for ends in zip(*intervals)))

    def of(self, examples: tf.Tensor) -> "Interval":
        """Those of some examples, by their indices; one may be there several times."""
        return Interval(tf.gather(self.low, examples), tf.gather(self.high, examples))


def sum_per_example(tensor: tf.Tensor) -> tf.Tensor:
    """The sum over all axes but the first, in double precision on its way, so that terms that cancel round alone."""
    terms = tf.reshape(tf.cast(tensor, tf.float64), [tf.shape(tensor)[0], -1])
    return tf.cast(tf.reduce_sum(terms, axis=1), tensor.dtype)


def of_one_rank(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Tensors with axes of size 1 behind the batch, as Keras lays them beside those of more axes."""
    rank = max(len(tensor.shape) for tensor in tensors)
    return [_of_rank(tensor, rank) for tensor in tensors]


def _of_rank(tensor, rank):
    missing = [1] * (rank - len(tensor.shape))
    return (
        tf.reshape(tensor, tf.concat([tf.shape(tensor)[:1], missing, tf.shape(tensor)[1:]], 0)) if missing else tensor
    )

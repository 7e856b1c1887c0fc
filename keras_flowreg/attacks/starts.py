"""Whether other starts of a search are worth their time: how much its outcomes vary from one start to the next."""

from typing import NamedTuple

import tensorflow as tf

from keras_flowreg.types import Number, PerExample


class Starts(NamedTuple):
    """What a search has come to from its random starts: of each example their count, mean, and squared deviations' sum.

    Where all starts end alike, one more does, too. Where they differ much, another may get farther.

    Reference: Welford, "Note on a method for calculating corrected sums of squares and products", 1962, for the sums.
    """

    count: PerExample
    mean: PerExample
    squares: PerExample

    @classmethod
    def none(cls, like: PerExample) -> "Starts":
        """No start yet, for each example of a float `[batch]`."""
        return cls(*(tf.zeros_like(like) for _ in cls._fields))

    def add(self, outcome: PerExample) -> "Starts":
        """Those, and one more start of each example: what it came to, float `[batch]`."""
        count, difference = self.count + 1, outcome - self.mean
        mean = self.mean + difference / count
        return Starts(count, mean, self.squares + difference * (outcome - mean))

    def may_exceed(self, value: Number, deviations: Number) -> PerExample:
        """Whether a value is less than so many standard deviations above the mean: bool `[batch]`."""
        variance = tf.math.divide_no_nan(self.squares, self.count - 1)
        return self.mean + deviations * tf.sqrt(variance) > value

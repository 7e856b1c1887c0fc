"""Coefficients on a part of an image: a number deep in a convolutional network sees a few pixels of each value before it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.intervals import sum_per_example

Sides = tuple[int, int]  # of rows and columns


class Sliding(NamedTuple):
    """How an operation slides over an image. By default each pixel becomes one pixel, at the same place."""

    sizes: Sides = (1, 1)
    strides: Sides = (1, 1)
    is_padded: bool = False  # as "same" pads

    def paddings(self, sides: Sequence[int]) -> list[tuple[int, int]]:
        """How far an image of these sides is padded: before and after, along each axis."""
        if not self.is_padded:
            return [(0, 0), (0, 0)]
        counts = [-(-side // stride) for side, stride in zip(sides, self.strides)]
        missing = [max(whole - side, 0) for whole, side in zip(self.covered(counts), sides)]
        return [(each // 2, each - each // 2) for each in missing]

    def seen(self, images: tf.Tensor, counts: Sequence[int]) -> tf.Tensor:
        """The pixels of images, padded, that as many outputs see."""
        height, width = self.covered(counts)
        return tf.pad(images, [(0, 0), *self.paddings(images.shape[1:3]), (0, 0)])[:, :height, :width]

    def covered(self, counts: Sequence[int]) -> list[int]:
        """The sides of what as many outputs see."""
        return [(count - 1) * stride + size for count, stride, size in zip(counts, self.strides, self.sizes)]


class Window(NamedTuple):
    """Coefficients of a part of a value, `[queries, rows, columns, channels]`; they are zero elsewhere.

    Of a value that is not an image it is the whole.
    """

    coefficients: tf.Tensor
    origin: Sides = (0, 0)

    @classmethod
    def around(cls, indices: np.ndarray, shape: Sequence[int]) -> "Window":
        """A query for each of some numbers of a value, by their indices in the flattened value; no larger than it must be."""
        if len(shape) != 3:
            return cls(tf.reshape(tf.one_hot(indices, int(np.prod(shape))), [-1, *shape]))
        places = np.stack(np.unravel_index(indices, shape))
        (top, left), (bottom, right) = np.min(places[:2], axis=1), np.max(places[:2], axis=1)
        sides = (bottom - top + 1, right - left + 1, shape[2])
        inside = np.ravel_multi_index(places - [[top], [left], [0]], sides)
        ones = tf.one_hot(inside, int(np.prod(sides)))
        return cls(tf.reshape(ones, [-1, *sides]), (int(top), int(left)))

    def whole(self, shape: Sequence[int]) -> tf.Tensor:
        """The coefficients of all of a value of this shape."""
        return self._within((0, 0), shape[:2]) if len(shape) == 3 else self.coefficients

    def cut(self, tensor: tf.Tensor) -> tf.Tensor:
        """The same part of a tensor of the value, or of one for each of its pixels, `[batch, height, width, ...]`."""
        if len(self.coefficients.shape) != 4:
            return tensor
        (top, left), (rows, columns) = self.origin, self.coefficients.shape[1:3]
        return tensor[:, top : top + rows, left : left + columns]

    def sum_of_sizes(self, sizes: tf.Tensor) -> tf.Tensor:
        """Σ |coefficients| · size for each query, of sizes `[1, ...]` of the value."""
        return sum_per_example(tf.abs(self.coefficients) * self.cut(sizes))

    def seen(self, part: tf.Tensor, sliding: Sliding, sides: Sequence[int]) -> "Window":
        """The window of an operation's input, of coefficients on all that these outputs see, the padding among it."""
        tops = [
            place * stride - before
            for place, stride, (before, _) in zip(self.origin, sliding.strides, sliding.paddings(sides))
        ]
        starts = [max(-top, 0) for top in tops]
        ends = [min(size, side - top) for size, side, top in zip(part.shape[1:3], sides, tops)]
        inside = part[:, starts[0] : ends[0], starts[1] : ends[1]]
        return Window(inside, (tops[0] + starts[0], tops[1] + starts[1]))

    def plus(self, other: "Window") -> "Window":
        """The sum of two windows."""
        if self.coefficients.shape[1:] == other.coefficients.shape[1:] and self.origin == other.origin:
            return Window(self.coefficients + other.coefficients, self.origin)
        windows = (self, other)
        start = [min(window.origin[axis] for window in windows) for axis in (0, 1)]
        end = [max(window.origin[axis] + window.coefficients.shape[1 + axis] for window in windows) for axis in (0, 1)]
        sides = [end[axis] - start[axis] for axis in (0, 1)]
        return Window(self._within(start, sides) + other._within(start, sides), (start[0], start[1]))

    def with_negative(self) -> "Window":
        """The queries, and behind them their negatives."""
        return Window(tf.concat([self.coefficients, -self.coefficients], axis=0), self.origin)

    def of(self, rows: tf.Tensor) -> "Window":
        """Some of the queries, by their indices."""
        return Window(tf.gather(self.coefficients, rows), self.origin)

    def _within(self, start, sides):
        """The coefficients of a larger window."""
        before = [own - first for own, first in zip(self.origin, start)]
        after = [side - first - size for side, first, size in zip(sides, before, self.coefficients.shape[1:3])]
        return tf.pad(self.coefficients, [(0, 0), *zip(before, after), (0, 0)])

"""A step on each of several rows of an image, such as windows, as if they were images."""

from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from keras_flowreg.certification.activations import LeakyReLU
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.layouts import Layout
from keras_flowreg.certification.steps import Backward, Relaxation, Step


class OfRows(Step):
    """A step on the rows of each image, `[batch, rows, ...]`, each of which it takes for an image.

    Args:
      step: the step.
      layout: of the inputs and of the output.
    """

    def __init__(self, step: Step, layout: Layout):
        self._step = step
        self._layout = layout
        self.is_linear = step.is_linear
        self.has_statistics = step.has_statistics

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*map(self._layout.split, self._step.interval(*self._merged(inputs))))

    def value(self, *inputs: tf.Tensor) -> tf.Tensor:
        return self._layout.split(self._step.value(*map(self._layout.merged, inputs)))

    def terms(self, *sizes: tf.Tensor) -> Optional[tf.Tensor]:
        terms = self._step.terms(*map(self._layout.merged, sizes))
        return None if terms is None else self._layout.split(terms)

    def check(self, shapes: Sequence[Sequence[int]], layer: str) -> None:
        self._step.check([shape[1:] for shape in shapes], layer)

    def in_training(self, *inputs: tf.Tensor) -> Step:
        return OfRows(self._step.in_training(*map(self._layout.merged, inputs)), self._layout)

    def relax(self, *inputs: Interval) -> Relaxation:
        return tuple(map(self._layout.split, self._step.relax(*self._merged(inputs))))

    def backward(self, coefficients: tf.Tensor, shapes: Sequence[Sequence[int]], relaxation: Relaxation) -> Backward:
        parts, terms = self._step.backward(
            self._layout.merged(coefficients),
            [shape[1:] for shape in shapes],
            tuple(map(self._layout.merged, relaxation)),
        )
        return [*map(self._layout.split, parts)], None if terms is None else self._layout.split(terms)

    def is_loose(self, inputs: Interval) -> tf.Tensor:
        return self._layout.split(self._step.is_loose(*self._merged([inputs])))

    def _merged(self, intervals):
        return [Interval(*map(self._layout.merged, interval)) for interval in intervals]


def fitted(step: Step, layouts: Sequence[Layout]) -> tuple[Step, Layout]:
    """A step that takes values of these layouts, and the layout of what it gives.

    Raises:
      ValueError: if they have their batch on another axis than the first, or differ.
    """
    if step.layout is not None:
        return step, step.layout
    first = layouts[0]
    if first.axis or any(layout != first for layout in layouts):
        raise ValueError("whose batch is not on the first axis, or which have different rows in it")
    # ReLUs, whose slopes are optimized, look at each number alone.
    return (step if first.rows == 1 or isinstance(step, LeakyReLU) else OfRows(step, first)), first

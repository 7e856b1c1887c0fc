"""Activations, and two lines between which each lies on an interval.

A line of any slope a lies below f on [l, u] if its intercept is min over [l, u] of f(x) - a·x. That minimum is at an end, or
where f'(x) = a. Between two inflections f' is monotone, so bisection finds every such place. So a line needs only a good
slope; what makes it sound is the intercept.
"""

from collections.abc import Callable, Sequence
from typing import Union

import keras
import tensorflow as tf

from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.steps import Elementwise, Relaxation

_BISECTIONS = 16
_ROUNDING = 3e-6  # of the interval's size, and of a line's slope: what float32 rounds
_NARROW = 1e-3  # a secant's slope is rounding below this width
_TRIED = (0.0, 0.25, 0.5, 0.75, 1.0)  # parts of an interval, for slopes


class Smooth(Elementwise):
    """An activation with a continuous derivative, that is straight far from zero. `certify` tries it on random intervals.

    ```python
    square_root = fr.certification.Smooth(  # sqrt(1 + x²): its least value at 0, no inflection
        lambda x: tf.sqrt(1 + x**2), lambda x: x / tf.sqrt(1 + x**2), extrema=(0.0,), far=5000.0
    )
    low, high = square_root.interval(fr.certification.Interval(tf.constant([-1.0]), tf.constant([2.0])))
    print(low, high)  # 1, sqrt(5)
    ```

    Args:
      function: f, a function of a tensor.
      derivative: f'.
      inflections: where f' turns from rising to falling, or back, in rising order.
      extrema: where f' is zero.
      far: beyond -far and far, f' is constant to float32. Lines cross a function of which this is not true.
    """

    def __init__(
        self,
        function: Callable[[tf.Tensor], tf.Tensor],
        derivative: Callable[[tf.Tensor], tf.Tensor],
        inflections: Sequence[float] = (),
        extrema: Sequence[float] = (),
        far: float = 20.0,
    ):
        self._function = function
        self._derivative = derivative
        self._pieces = list(zip((-far, *inflections), (*inflections, far)))
        self._extrema = extrema

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        places = [*inputs, *(inputs.nearest(extremum) for extremum in self._extrema)]
        values = [self._function(place) for place in places]
        return Interval(_least(values), -_least([-value for value in values]))

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        below, above = self._good_slopes(inputs)
        size = _ROUNDING * (1 + tf.maximum(tf.abs(inputs.low), tf.abs(inputs.high)))
        low, high = self._gaps(below, inputs).low, self._gaps(above, inputs).high
        return below, low - size * _at_least_one(below), above, high + size * _at_least_one(above)

    def _good_slopes(self, inputs):
        """The slopes of a line below and of one above, of a few that are tried, which come nearest at the middle."""
        low, high = inputs
        places = [low + part * (high - low) for part in _TRIED]
        heights = [self._function(place) for place in places]
        at_center = self._derivative(inputs.center)
        pairs = [(0, k) for k in range(1, len(_TRIED))] + [(k, -1) for k in range(1, len(_TRIED) - 1)]
        steps = [tf.maximum(places[end] - places[start], _NARROW / len(_TRIED)) for start, end in pairs]
        secants = [(heights[end] - heights[start]) / step for (start, end), step in zip(pairs, steps)]
        below = above = at_center
        highest = lowest = None
        for slope in [at_center, *(tf.where(high - low > _NARROW, secant, at_center) for secant in secants)]:
            gaps = [height - slope * (place - inputs.center) for place, height in zip(places, heights)]
            under, over = _least(gaps), -_least([-gap for gap in gaps])
            if highest is None:
                highest, lowest = under, over
            below, above = tf.where(under > highest, slope, below), tf.where(over < lowest, slope, above)
            highest, lowest = tf.maximum(highest, under), tf.minimum(lowest, over)
        return below, above

    def _gaps(self, slope, inputs):
        """Bounds of the least and the greatest f(x) - slope · x on an interval."""
        places, missed = self._places(slope, inputs)
        gaps = [self._function(place) - slope * place for place in places]
        return Interval(_least(gaps) - missed, missed - _least([-gap for gap in gaps]))

    def _places(self, slope, inputs):
        """Where they may lie, and how much they may be beyond what is there."""
        places, missed = [*inputs], tf.zeros_like(slope)
        for start, end in self._pieces:
            start, end = inputs.nearest(start), inputs.nearest(end)
            before, after = self._where_derivative_is(slope, start, end)
            # f(x) - slope · x is steeper nowhere between the two than its derivative changes there.
            change = tf.abs(self._derivative(after) - self._derivative(before))
            missed = tf.maximum(missed, change * (after - before))
            places += [before, after, end]
        return places, missed

    def _where_derivative_is(self, slope, start, end):
        """Two places close around where f' is the slope, of two between which it is monotone; at an end, if it is nowhere."""
        is_rising = self._derivative(end) > self._derivative(start)
        for _ in range(_BISECTIONS):
            middle = (start + end) / 2
            is_before = (self._derivative(middle) < slope) == is_rising
            start, end = tf.where(is_before, middle, start), tf.where(is_before, end, middle)
        return start, end


class Clipped(Smooth):
    """min(max(slope · x + offset, least), most), such as ReLU6. A line's intercept is decided at its two kinks.

    ```python
    step = fr.certification.Clipped(6.0)
    print(step.interval(fr.certification.Interval(images - 1, 9 * images)).high.shape)
    ```

    Args:
      most: the largest value.
      least: the smallest value, less than `most`.
      slope: that between the two, more than 0.
      offset: what is added to slope · x.
    """

    def __init__(self, most: float, least: float = 0.0, slope: float = 1.0, offset: float = 0.0):
        self._kinks = [(end - offset) / slope for end in (least, most)]
        super().__init__(
            lambda x: tf.clip_by_value(slope * x + offset, least, most),
            lambda x: tf.where((x > self._kinks[0]) & (x < self._kinks[1]), slope * tf.ones_like(x), 0.0),
        )

    def _places(self, slope, inputs):
        return [*inputs, *(inputs.nearest(kink) for kink in self._kinks)], 0.0


class ParametricReLU(Elementwise):
    """x where it is positive, slope · x elsewhere, for any slope.

    Where the sign is not known, the chord lies on one side of it: above it, unless the slope is more than 1. On the other
    side lies the longer one of the two pieces.

    ```python
    step = fr.certification.ParametricReLU(tf.constant([0.1, 2.0]))  # of two channels
    print(step.interval(fr.certification.Interval(tf.constant([[-1.0, -1.0]]), tf.constant([[1.0, 1.0]]))))
    ```

    Args:
      slope: that of the negative piece: a number, or a tensor with one for each channel or value.
    """

    def __init__(self, slope: Union[float, tf.Tensor]):
        self._slope = slope

    def check(self, shapes: Sequence[Sequence[int]], layer: str) -> None:
        """Nothing can be wrong with it."""

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        values = [tf.where(place > 0, place, self._slope * place) for place in (*inputs, inputs.nearest(0.0))]
        return Interval(_least(values), -_least([-value for value in values]))

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        low, high = inputs
        # The part of the interval that is positive: 0 or 1 where the sign is known.
        positive, negative = tf.nn.relu(high), tf.nn.relu(-low)
        part = tf.where(low >= 0, tf.ones_like(low), tf.math.divide_no_nan(positive, positive + negative))
        slope, zero = self._slope * tf.ones_like(part), tf.zeros_like(part)
        chord, intercept = slope + (1 - slope) * part, (1 - slope) * part * negative
        longer = tf.where(part > 0.5, tf.ones_like(part), slope)
        is_convex = slope <= 1
        below, above = tf.where(is_convex, longer, chord), tf.where(is_convex, chord, longer)
        return below, tf.where(is_convex, zero, intercept), above, tf.where(is_convex, intercept, zero)

    def split_point(self, inputs: Interval) -> tf.Tensor:
        return tf.zeros_like(inputs.low)

    def is_loose(self, inputs: Interval) -> tf.Tensor:
        return (inputs.low < 0) & (inputs.high > 0)


class LeakyReLU(ParametricReLU):
    """max(x, slope · x), for a slope from 0 to less than 1; ReLU for 0. Other lines below it can be chosen.

    ```python
    step = fr.certification.LeakyReLU(0.1)
    print(step.interval(fr.certification.Interval(images - 1, images)).low.shape)
    ```

    Args:
      slope: that of the negative piece.
    """

    def __init__(self, slope: float = 0.0):
        super().__init__(slope)

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        return Interval(*(tf.maximum(end, self._slope * end) for end in inputs))

    def slope_range(self, inputs: Interval) -> Interval:
        """The slopes of all lines through zero that lie below it, where its sign is not known; its own slope elsewhere."""
        one = tf.ones_like(inputs.low)
        return Interval(*(tf.where(sign, one, self._slope * one) for sign in (inputs.low >= 0, inputs.high > 0)))


class Sigmoid(Smooth):
    """1 / (1 + exp(-x)), which is not bounded at the end of a model: its sign is the class.

    ```python
    step = fr.certification.Sigmoid()
    print(step.interval(fr.certification.Interval(images - 1, images)).low.shape)
    ```
    """

    keeps_class = True

    def __init__(self) -> None:
        super().__init__(tf.sigmoid, sigmoid_slope, inflections=(0.0,))

    def value(self, inputs: tf.Tensor) -> tf.Tensor:
        return keras.activations.sigmoid(inputs)  # As the layer does: Keras's losses look for its logits.


def sigmoid_slope(x: tf.Tensor) -> tf.Tensor:
    """The derivative of the sigmoid."""
    return tf.sigmoid(x) * tf.sigmoid(-x)


def _at_least_one(slope):
    return tf.maximum(tf.abs(slope), 1)


def _least(tensors):
    return tf.reduce_min(tf.stack(tensors), axis=0)

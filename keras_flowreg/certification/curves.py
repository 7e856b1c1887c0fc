"""Functions of numbers that bend one way and never turn, such as the exponential, roots and the reciprocal.

On one side of such a function lies its tangent at the middle of an interval, on the other its chord.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.steps import Elementwise, Relaxation

_ROUNDING = 3e-6  # of the numbers that a line is made of
_NARROW = 1e-6  # of its ends: an interval for which constant lines do
_ANY = 3e38  # nearly the greatest number there is
_LEAST = 1e-30  # positive number, nearly


class Curve(Elementwise):
    """A function that is convex or concave, and rises or falls, on a range of numbers. `certify` tries it on random intervals.

    ```python
    step = fr.certification.Curve(tf.exp, tf.exp, is_convex=True, greatest=69.0)
    print(step.interval(fr.certification.Interval(images - 1, images)).low.shape)
    ```

    Args:
      function: f, a function of a tensor.
      derivative: f'.
      is_convex: whether f' rises; it falls otherwise.
      least: where the range begins.
      greatest: where it ends. In it f is at most 1e30 in size. Of an interval that leaves it nothing is known.
      is_nan_below: whether f is NaN below `least`, so that no number there counts.
    """

    def __init__(
        self,
        function: Callable[[tf.Tensor], tf.Tensor],
        derivative: Callable[[tf.Tensor], tf.Tensor],
        *,
        is_convex: bool,
        least: float = -math.inf,
        greatest: float = math.inf,
        is_nan_below: bool = False,
    ):
        self._function = function
        self._derivative = derivative
        self._is_convex = is_convex
        self._range = least, greatest
        self._least_known = -math.inf if is_nan_below else least

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        ends = [self._function(end) for end in self._within(inputs)]
        rounding = _ROUNDING * tf.maximum(*map(tf.abs, ends))
        is_known = self._is_known(inputs)
        low, high = tf.minimum(*ends) - rounding, tf.maximum(*ends) + rounding
        return Interval(tf.where(is_known, low, -_ANY), tf.where(is_known, high, _ANY))

    def value(self, *inputs: tf.Tensor) -> tf.Tensor:
        return self._function(*inputs)

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        low, high = self._within(inputs)
        size = tf.maximum(tf.abs(low), tf.abs(high))
        is_wide = self._is_known(inputs) & (high - low > _NARROW * size)
        tangent = self._derivative((low + high) / 2)
        chord = tf.math.divide_no_nan(self._function(high) - self._function(low), high - low)
        lines = []
        for sign, constant, is_tangent in zip((-1, 1), self.interval(inputs), (self._is_convex, not self._is_convex)):
            slope = tangent if is_tangent else chord
            places = [(low + high) / 2] if is_tangent else [low, high]
            gaps = [sign * (self._function(place) - slope * place) for place in places]
            values = [tf.abs(self._function(place)) for place in places]
            rounding = _ROUNDING * (tf.reduce_max(values, axis=0) + tf.abs(slope) * size)
            intercept = sign * (tf.reduce_max(gaps, axis=0) + rounding)
            lines += [tf.where(is_wide, slope, 0.0), tf.where(is_wide, intercept, constant)]
        return tuple(lines)

    def _within(self, inputs):
        return Interval(*(tf.clip_by_value(end, *self._range) for end in inputs))

    def _is_known(self, inputs):
        return (inputs.low >= self._least_known) & (inputs.high <= self._range[1])


def exponential() -> Curve:
    """exp(x)."""
    return Curve(tf.exp, tf.exp, is_convex=True, greatest=69.0)


def logarithm() -> Curve:
    """log(x), of positive numbers."""
    return Curve(tf.math.log, lambda x: 1 / x, is_convex=False, least=_LEAST)


def square_root() -> Curve:
    """sqrt(x), of numbers that are not negative."""

    def derivative(x):
        return 0.5 * tf.math.rsqrt(tf.maximum(x, _LEAST))

    return Curve(tf.sqrt, derivative, is_convex=False, least=0.0, is_nan_below=True)


def inverse_square_root() -> Curve:
    """1 / sqrt(x), of positive numbers."""
    return Curve(tf.math.rsqrt, lambda x: -0.5 * tf.math.rsqrt(x) / x, is_convex=True, least=1e-20)


def reciprocal() -> Curve:
    """1 / x, of positive numbers."""
    return Curve(tf.math.reciprocal, lambda x: -1 / x**2, is_convex=True, least=1e-15)

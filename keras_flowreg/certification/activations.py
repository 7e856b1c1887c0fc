"""Activations, and two lines between which each lies on an interval.

A line of any slope a lies below f on [l, u] if its intercept is min over [l, u] of f(x) - a·x. That minimum is at an end, or
where f'(x) = a. Between two inflections f' is monotone, so bisection finds every such place. So a line needs only a good
slope; what makes it sound is the intercept.
"""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.steps import Elementwise, Relaxation

_FAR = 20.0  # beyond which f' is constant, to float32
_BISECTIONS = 16
_ROUNDING = 3e-6  # of the interval's size: bisection's error, and that of float32
_NARROW = 1e-3  # a chord's slope is rounding below this width


class Smooth(Elementwise):
    """An activation with a continuous derivative, that is straight far from zero.

    ```python
    square_root = fr.certification.Smooth(  # sqrt(1 + x²): its least value at 0, no inflection
        lambda x: tf.sqrt(1 + x**2), lambda x: x / tf.sqrt(1 + x**2), extrema=(0.0,)
    )
    low, high = square_root.interval(fr.certification.Interval(tf.constant([-1.0]), tf.constant([2.0])))
    print(low, high)  # 1, sqrt(5)
    ```

    Args:
      function: f, a function of a tensor.
      derivative: f'.
      inflections: where f' turns from rising to falling, or back, in rising order.
      extrema: where f' is zero.
    """

    def __init__(
        self,
        function: Callable[[tf.Tensor], tf.Tensor],
        derivative: Callable[[tf.Tensor], tf.Tensor],
        inflections: Sequence[float] = (),
        extrema: Sequence[float] = (),
    ):
        self._function = function
        self._derivative = derivative
        self._pieces = list(zip((-_FAR, *inflections), (*inflections, _FAR)))
        self._extrema = extrema

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        places = [*inputs, *(tf.clip_by_value(extremum, *inputs) for extremum in self._extrema)]
        values = [self._function(place) for place in places]
        return Interval(_least(values), -_least([-value for value in values]))

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        low, high = inputs
        width = high - low
        at_center = self._derivative(inputs.center)
        chord = (self._function(high) - self._function(low)) / tf.maximum(width, _NARROW)
        slopes = [tf.where(width > _NARROW, chord, at_center), at_center]
        lines = [(slope, self._gaps(slope, inputs)) for slope in slopes]
        below = _higher_in_the_middle([(slope, gaps.low) for slope, gaps in lines], inputs.center)
        above = _higher_in_the_middle([(-slope, -gaps.high) for slope, gaps in lines], -inputs.center)
        slack = _ROUNDING * (1 + tf.maximum(tf.abs(low), tf.abs(high)))
        return below[0], below[1] - slack, -above[0], slack - above[1]

    def _gaps(self, slope, inputs):
        """The least and the greatest f(x) - slope · x on an interval."""
        places = [*inputs]
        for start, end in self._pieces:
            start, end = (tf.clip_by_value(edge, *inputs) for edge in (start, end))
            places.append(self._where_derivative_is(slope, start, end))
            places.append(end)
        gaps = [self._function(place) - slope * place for place in places]
        return Interval(_least(gaps), -_least([-gap for gap in gaps]))

    def _where_derivative_is(self, slope, start, end):
        """Where f' is the slope, between two places between which it is monotone; near an end, if it is nowhere."""
        is_rising = self._derivative(end) > self._derivative(start)
        for _ in range(_BISECTIONS):
            middle = (start + end) / 2
            is_before = (self._derivative(middle) < slope) == is_rising
            start, end = tf.where(is_before, middle, start), tf.where(is_before, end, middle)
        return (start + end) / 2


class LeakyReLU(Elementwise):
    """max(x, slope · x), for a slope from 0 to less than 1; ReLU for 0.

    Where the sign is not known, the chord lies above it. Of the two pieces, the longer one lies below it.

    ```python
    step = fr.certification.LeakyReLU(0.1)
    print(step.interval(fr.certification.Interval(images - 1, images)).low.shape)
    ```

    Args:
      slope: that of the negative piece.
    """

    def __init__(self, slope: float = 0.0):
        self._slope = slope

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        return Interval(*(tf.maximum(end, self._slope * end) for end in inputs))

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        low, high = inputs
        # The part of the interval that is positive: 0 or 1 where the sign is known.
        positive, negative = tf.nn.relu(high), tf.nn.relu(-low)
        part = tf.where(low >= 0, tf.ones_like(low), tf.math.divide_no_nan(positive, positive + negative))
        chord = self._slope + (1 - self._slope) * part
        intercept = (1 - self._slope) * part * negative
        longer = tf.where(part > 0.5, tf.ones_like(part), self._slope * tf.ones_like(part))
        return longer, tf.zeros_like(part), chord, intercept

    def is_loose(self, inputs: Interval) -> tf.Tensor:
        return (inputs.low < 0) & (inputs.high > 0)


class Sigmoid(Smooth):
    """1 / (1 + exp(-x)), which is not bounded at the end of a model: its sign is the class.

    ```python
    step = fr.certification.Sigmoid()
    print(step.interval(fr.certification.Interval(images - 1, images)).low.shape)
    ```
    """

    keeps_class = True

    def __init__(self) -> None:
        super().__init__(tf.sigmoid, _sigmoid_slope, inflections=(0.0,))


class Softmax(Elementwise):
    """exp(x) / Σ exp(x) over the last axis, which is not bounded at the end of a model; between constant lines.

    ```python
    step = fr.certification.Softmax()
    print(step.interval(fr.certification.Interval(images - 1, images)).low.shape)
    ```
    """

    keeps_class = True

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        low, high = inputs

        def share(own, others):
            """The softmax of each value, with other values beside it."""
            count = tf.shape(own)[-1]
            rows = tf.where(tf.eye(count, dtype=tf.bool), own[..., tf.newaxis, :], others[..., tf.newaxis, :])
            return tf.linalg.diag_part(tf.nn.softmax(rows))

        return Interval(share(low, high), share(high, low))

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        low, high = self.interval(inputs)
        return tf.zeros_like(low), low, tf.zeros_like(high), high


def relu() -> Elementwise:
    return LeakyReLU(0.0)


def tanh() -> Elementwise:
    return Smooth(tf.tanh, lambda x: 1 - tf.tanh(x) ** 2, inflections=(0.0,))


def softplus() -> Elementwise:
    return Smooth(tf.math.softplus, tf.sigmoid)


def swish() -> Elementwise:
    return Smooth(
        tf.nn.silu,
        lambda x: tf.sigmoid(x) + x * _sigmoid_slope(x),
        inflections=(-2.3993573, 2.3993573),
        extrema=(-1.2784645,),
    )


def gelu(approximate: bool = False) -> Elementwise:
    if approximate:
        return Smooth(
            lambda x: tf.nn.gelu(x, approximate=True),
            _approximate_gelu_slope,
            inflections=(-1.4185040, 1.4185040),
            extrema=(-0.7524614,),
        )
    root = math.sqrt(2)
    return Smooth(
        tf.nn.gelu,
        lambda x: (1 + tf.math.erf(x / root)) / 2 + x * tf.exp(-(x**2) / 2) / math.sqrt(2 * math.pi),
        inflections=(-root, root),
        extrema=(-0.7517916,),
    )


def _sigmoid_slope(x):
    return tf.sigmoid(x) * tf.sigmoid(-x)


def _approximate_gelu_slope(x):
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    tanh = tf.tanh(scale * (x + cubic * x**3))
    return (1 + tanh) / 2 + x * (1 - tanh**2) * scale * (1 + 3 * cubic * x**2) / 2


def _least(tensors):
    return tf.reduce_min(tf.stack(tensors), axis=0)


def _higher_in_the_middle(lines, center):
    """Of two lines the one that is higher at the interval's middle, value by value."""
    (slope, intercept), (other_slope, other_intercept) = lines
    is_higher = slope * center + intercept >= other_slope * center + other_intercept
    return tf.where(is_higher, slope, other_slope), tf.where(is_higher, intercept, other_intercept)

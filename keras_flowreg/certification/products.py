"""Products of values, and what normalizes a value by its own variance: squares, and roots of what they add up to."""

import functools
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_flowreg.certification.intervals import Interval, of_one_rank
from keras_flowreg.certification.rounding import summands_by_shape, weight_of
from keras_flowreg.certification.steps import Backward, Elementwise, Linear, Relaxation, Step
from keras_flowreg.certification.windows import Sliding

_ROUNDING = 3e-6  # of the numbers that a line is made of


class Product(Step):
    """The product of the inputs, which are repeated along axes of size 1.

    A product is near the plane of its first derivatives at the middle of both intervals:

        |x · y - (d · x + c · y - c · d)| = |x - c| · |y - d|

    That plane, moved by the product of the radii, is the mean of the two by McCormick, on each side. A product of more inputs
    is one of a product.

    ```python
    @fr.certification.register_rule(keras.layers.Multiply)
    def _multiply(layer):
        return [fr.certification.Product()]
    ```

    Reference: McCormick, "Computability of global solutions to factorable nonconvex programs: Part I", 1976.
    """

    sliding = Sliding()

    def interval(self, *inputs: Interval) -> Interval:
        return functools.reduce(_product_of_intervals, _of_one_rank(inputs))

    def value(self, *inputs: tf.Tensor) -> tf.Tensor:
        return math.prod(of_one_rank(inputs))

    def terms(self, *sizes: tf.Tensor) -> tf.Tensor:
        terms = self.value(*sizes)
        return weight_of(summands_by_shape(sizes, terms)) * terms

    def relax(self, *inputs: Interval) -> Relaxation:
        """A slope for each input and a constant, of the plane, and how far the product may be from it."""
        product, *others = _of_one_rank(inputs)
        slopes, constant, error = [tf.ones_like(product.low)], tf.zeros_like(product.low), tf.zeros_like(product.low)
        for factor in others:
            center = factor.center
            slopes = [*(slope * center for slope in slopes), product.center]
            constant = (constant - product.center) * center
            error = error * tf.abs(center) + product.radius * factor.radius
            product = _product_of_intervals(product, factor)
        return tuple(part + tf.zeros_like(product.low) for part in (*slopes, constant, error))

    def backward(self, coefficients: tf.Tensor, shapes: Sequence[Sequence[int]], relaxation: Relaxation) -> Backward:
        *slopes, constant, error = relaxation

        def plane(*inputs):
            return sum(slope * each for slope, each in zip(slopes, of_one_rank(inputs)))

        parts, _ = Linear(plane).backward(coefficients, shapes, ())
        return parts, coefficients * constant - tf.abs(coefficients) * error


class Square(Elementwise):
    """x². The tangent at the middle lies below it, the chord above.

    ```python
    step = fr.certification.Square()
    print(step.interval(fr.certification.Interval(images - 1, images)).low.shape)
    ```
    """

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        high = tf.maximum(inputs.low**2, inputs.high**2)
        return Interval(inputs.nearest(0.0) ** 2 * (1 - _ROUNDING), high * (1 + _ROUNDING))

    def value(self, *inputs: tf.Tensor) -> tf.Tensor:
        return inputs[0] ** 2

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        low, high = inputs
        rounding = _ROUNDING * tf.maximum(low**2, high**2)
        slope = low + high
        return slope, -((slope / 2) ** 2) - rounding, slope, rounding - low * high


class InverseRoot(Elementwise):
    """1 / sqrt(x + epsilon), of x that are not negative. The tangent at the middle lies below it, the chord above.

    ```python
    step = fr.certification.InverseRoot(1e-3)
    print(step.interval(fr.certification.Interval(images, images + 1)).low.shape)
    ```

    Args:
      epsilon: more than 0.
    """

    def __init__(self, epsilon: float):
        self._epsilon = epsilon

    def check(self, shapes: Sequence[Sequence[int]], layer: str) -> None:
        """It is not for any number."""

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        high, low = (self.value(end) for end in inputs)
        return Interval(low * (1 - _ROUNDING), high * (1 + _ROUNDING))

    def value(self, *inputs: tf.Tensor) -> tf.Tensor:
        return tf.math.rsqrt(tf.nn.relu(inputs[0]) + self._epsilon)

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        low, high = map(tf.nn.relu, inputs)
        middle = (low + high) / 2
        at_low, at_middle, at_high = map(self.value, (low, middle, high))
        tangent, chord = -(at_middle**3) / 2, -((at_low * at_high) ** 2) / (at_low + at_high)
        rounding = _ROUNDING * (at_low - high * tf.minimum(tangent, chord))
        return tangent, at_middle - tangent * middle - rounding, chord, at_low - chord * low + rounding


class Normalized(Elementwise):
    """Numbers of which it is known that they cannot be large, since a root of all their squares divided them.

    They lie between lines through themselves, or between their bounds where the interval is wider than these.

    ```python
    step = fr.certification.Normalized(lambda inputs: 2.0)
    print(step.interval(fr.certification.Interval(images - 9, images + 9)).high.numpy().max())  # 2.00002
    ```

    Args:
      greatest: a function of the numbers that gives the absolute value that none can pass, by their shape.
    """

    def __init__(self, greatest: Callable[[tf.Tensor], float]):
        self._greatest = greatest

    def check(self, shapes: Sequence[Sequence[int]], layer: str) -> None:
        """It is not for any number."""

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        bound = self._bound(inputs.low)
        return Interval(*(tf.clip_by_value(end, -bound, bound) for end in inputs))

    def value(self, *inputs: tf.Tensor) -> tf.Tensor:
        return inputs[0]

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        bound = self._bound(inputs.low)
        is_narrow = inputs.high - inputs.low <= 2 * bound
        slope, intercept = tf.where(is_narrow, 1.0, 0.0), tf.where(is_narrow, 0.0, bound)
        return slope, -intercept, slope, intercept

    def is_loose(self, inputs: Interval) -> tf.Tensor:
        return tf.maximum(-inputs.low, inputs.high) > self._bound(inputs.low)

    def _bound(self, numbers):
        return (1 + 10 * _ROUNDING) * self._greatest(numbers)


def _of_one_rank(intervals):
    """Intervals, of which those of fewer axes get some of size 1 behind the batch."""
    return [Interval(*ends) for ends in zip(*(of_one_rank(ends) for ends in zip(*intervals)))]


def _product_of_intervals(first, second):
    ends = [one * other for one in first for other in second]
    return Interval(functools.reduce(tf.minimum, ends), functools.reduce(tf.maximum, ends))

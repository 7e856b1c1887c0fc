"""Softmax within a network, between two planes.

Of x, its value at i is 1 / S, with S = Σ_j exp(d_j) and d_j = x_j - x_i. Each exp lies above its tangent at the middle of
d_j's interval and below its chord, and so do their sums; 1 / S lies below its own chord, above its tangent, and falls. So

    1 / S ≤ chord of 1 / S, where S is the sum of tangents,    1 / S ≥ tangent of 1 / S, where S is the sum of chords,

which are linear in x. Where the intervals are wide its own bounds are better than these planes.

Reference: Shi et al., "Robustness verification for transformers", ICLR 2020, which takes softmax apart in the same way.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.steps import Backward, Relaxation, Step
from keras_flowreg.certification.windows import Sliding

_ROUNDING = 3e-6  # of a value, and of the numbers that a plane is made of
_LARGEST = 20.0  # a difference, whose exp leaves nothing for the others: the planes are not used beyond
_NARROW = 1e-3  # a chord's slope is rounding below this width


class Softmax(Step):
    """exp(x) / Σ exp(x) over the last axis, which is not bounded at the end of a model.

    ```python
    step = fr.certification.Softmax()
    print(step.interval(fr.certification.Interval(images - 1, images)).low.shape)
    ```
    """

    keeps_class = True
    sliding = Sliding()

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        low, high = inputs

        def share(own, others):
            """The softmax of each value, with other values beside it."""
            rows = tf.repeat(others[..., tf.newaxis, :], others.shape[-1], axis=-2)
            return tf.linalg.diag_part(tf.nn.softmax(tf.linalg.set_diag(rows, own)))

        return Interval(share(low, high) * (1 - _ROUNDING), share(high, low) * (1 + _ROUNDING))

    def value(self, inputs: tf.Tensor) -> tf.Tensor:
        return keras.activations.softmax(inputs)  # As the layer does: Keras's losses look for its logits.

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        """The slopes `[batch, ..., n, n]` and intercepts `[batch, ..., n]` of a plane below each value, and of one above."""
        own = self.interval(inputs)
        below, above = _planes(inputs)
        gap = _height(above, inputs.center) - _height(below, inputs.center)
        greatest = tf.reduce_max(inputs.high, axis=-1, keepdims=True) - inputs.low
        is_better = (greatest < _LARGEST) & (2 * gap < own.high - own.low)
        return (*_chosen(is_better, below, own.low), *_chosen(is_better, above, own.high))

    def backward(self, coefficients: tf.Tensor, shapes: Sequence[Sequence[int]], relaxation: Relaxation) -> Backward:
        low_slopes, low_intercept, high_slopes, high_intercept = relaxation
        positive = tf.nn.relu(coefficients)
        negative = coefficients - positive
        part = _sum_of_rows(positive, low_slopes) + _sum_of_rows(negative, high_slopes)
        return [part], positive * low_intercept + negative * high_intercept


def _planes(inputs):
    """Slopes and intercepts of the plane below, and of the one above."""
    low = tf.minimum(_differences(inputs.low, inputs.high), _LARGEST)
    high = tf.minimum(_differences(inputs.high, inputs.low), _LARGEST)
    middle = (low + high) / 2
    at_low, at_middle, at_high = tf.exp(low), tf.exp(middle), tf.exp(high)
    chord = tf.where(high - low < _NARROW, at_high, (at_high - at_low) / tf.maximum(high - low, _NARROW))
    least, greatest = tf.reduce_sum(at_low, axis=-1), tf.reduce_sum(at_high, axis=-1)
    center = (least + greatest) / 2
    below = _plane(-1 / center**2, 2 / center, chord, at_low - chord * low)
    above = _plane(-1 / (least * greatest), 1 / least + 1 / greatest, at_middle, at_middle * (1 - middle))
    size = tf.maximum(tf.abs(inputs.low), tf.abs(inputs.high))
    return _with_rounding(-1, below, size), _with_rounding(1, above, size)


def _differences(values, others):
    """What each value is above each of the others, `[..., i, j]` for j above i; nothing above itself."""
    differences = values[..., tf.newaxis, :] - others[..., tf.newaxis]
    return tf.linalg.set_diag(differences, tf.zeros_like(values))


def _plane(slope, intercept, slopes, intercepts):
    """`slope · S + intercept`, where S is the sum of lines of the differences, as terms of a plane of the values."""
    slopes = tf.linalg.set_diag(slope[..., tf.newaxis] * slopes, tf.zeros_like(slope))
    slopes = tf.linalg.set_diag(slopes, -tf.reduce_sum(slopes, axis=-1))
    return slopes, tf.concat([intercept[..., tf.newaxis], slope[..., tf.newaxis] * intercepts], axis=-1)


def _with_rounding(sign, plane, size):
    """A plane, of its terms, moved by what float32 rounds of values of this size."""
    slopes, terms = plane
    rounding = tf.reduce_sum(tf.abs(terms), axis=-1) + _sum_of_columns(tf.abs(slopes), size)
    return slopes, tf.reduce_sum(terms, axis=-1) + sign * _ROUNDING * rounding


def _height(plane, values):
    slopes, intercept = plane
    return _sum_of_columns(slopes, values) + intercept


def _sum_of_columns(slopes, values):
    """Σ_j slopes[i, j] · values[j]."""
    return tf.linalg.matvec(slopes, values)


def _sum_of_rows(coefficients, slopes):
    """Σ_i coefficients[i] · slopes[i, j]."""
    return tf.linalg.matvec(slopes, coefficients, transpose_a=True)


def _chosen(is_better, plane, constant):
    """The plane where it is better, and a constant elsewhere."""
    slopes, intercept = plane
    return tf.where(is_better[..., tf.newaxis], slopes, 0.0), tf.where(is_better, intercept, constant)

"""Penalties on bounds, for the time in which the radius of certified training rises.

Reference: Shi et al., "Fast certified robust training with short warmup", 2021.
"""

from collections.abc import Sequence

import tensorflow as tf

from keras_flowreg.certification.intervals import Interval
from keras_flowreg.types import Scalar

_TOLERATED = 0.5  # how far a ratio may fall below 1


def tightness_penalty(box: Interval, before_relus: Sequence[Interval]) -> Scalar:
    """Penalizes intervals that get wider on their way through a network.

        mean over ReLUs of max(0, 1 - 2 · E[width of the box] / E[width before the ReLU])

    Args:
      box: of the images.
      before_relus: the intervals that go into each ReLU.
    """
    width = _mean(box.radius)
    return _penalty_on_ratios([tf.math.divide_no_nan(width, _mean(interval.radius)) for interval in before_relus])


def balance_penalty(before_relus: Sequence[Interval]) -> Scalar:
    """Penalizes ReLUs that are active in more places, or further from zero, than they are inactive, or the other way.

    Of the centers c of intervals that do not hold zero, it compares Σ |c|, and Σ (c - E[c])², over the active ones and over
    the inactive ones. The penalty on the ratio of the smaller to the larger is that of `tightness_penalty`.

    Args:
      before_relus: the intervals that go into each ReLU.
    """
    ratios = []
    for interval in before_relus:
        center = interval.center
        signs = [tf.cast(signs, center.dtype) for signs in (interval.low > 0, interval.high < 0)]
        for size in (tf.abs(center), (center - _mean(center)) ** 2):
            ratios.append(_ratio(*(tf.reduce_sum(sign * size) for sign in signs)))
    return 2 * _penalty_on_ratios(ratios)  # Two for each ReLU.


def _penalty_on_ratios(ratios):
    if not ratios:
        return tf.constant(0.0)
    return tf.reduce_mean(tf.nn.relu(_TOLERATED - tf.stack(ratios))) / _TOLERATED


def _ratio(first, second):
    """The smaller to the larger; 1 if both are zero."""
    larger = tf.maximum(first, second)
    return tf.where(larger > 0, tf.math.divide_no_nan(tf.minimum(first, second), larger), 1)


def _mean(tensor):
    # A replica may get no examples of a last batch.
    return tf.math.divide_no_nan(tf.reduce_sum(tensor), tf.cast(tf.size(tensor), tensor.dtype))

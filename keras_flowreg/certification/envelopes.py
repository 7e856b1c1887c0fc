"""Checks that an activation lies in its interval and between its lines: a wrong rule would prove what is not true."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.intervals import Interval

_INTERVALS, _POINTS = 512, 33
_TOLERANCE = 1e-5  # of the function's and the line's values


def expect_enclosed(
    function: Callable[[tf.Tensor], tf.Tensor],
    interval: Callable[[Interval], Interval],
    lines: Callable[[Interval], tuple[tf.Tensor, ...]],
    shape: Sequence[int],
    name: str,
) -> None:
    """Checks bounds of a function of numbers at points of random intervals, between -100 and 100. Where it is NaN it is not.

    Args:
      function: of each value on its own; it may differ from channel to channel, and from pixel to pixel.
      interval: of the function, on an interval.
      lines: `(slope, intercept)` of a line below, and of one above; see `Elementwise.relax`.
      shape: of the inputs, without the batch.
      name: that of the layer.

    Raises:
      ValueError: if it leaves its interval, or a line crosses it.
    """
    inputs = _random_intervals([*[1] * (len(shape) - 1), *shape[-1:]])
    parts = np.linspace(0, 1, _POINTS, dtype="float32")
    points = [inputs.low + part * (inputs.high - inputs.low) for part in parts]
    values = tf.stack([function(point) for point in points])
    x = tf.broadcast_to(tf.stack(points), values.shape)
    low, high = interval(inputs)
    low_slope, low_intercept, high_slope, high_intercept = lines(inputs)
    for kind, below, above in (
        ("an interval", low + 0 * x, high + 0 * x),
        ("lines", low_slope * x + low_intercept, high_slope * x + high_intercept),
    ):
        rounding = _TOLERANCE * (1 + tf.abs(values) + tf.abs(below) + tf.abs(above))
        is_outside = (values < below - rounding) | (values > above + rounding)
        if tf.reduce_any(is_outside):
            place = tf.boolean_mask(x, is_outside)[0]
            raise ValueError(
                f"Expected an activation with {kind} that it does not leave. Received one that does, at {place:g}, by the rule "
                f"of {name}: are its derivative, inflections, extrema and `far` right?"
            )


def _random_intervals(shape):
    random = np.random.RandomState(0)
    shape = [max(1, _INTERVALS // shape[-1]), *shape]
    center = random.randn(*shape) * 10 ** random.uniform(-1, 1.5, shape)
    width = 10 ** random.uniform(-2, 2, shape)
    ends = (np.clip(center + sign * width / 2, -100, 100) for sign in (-1, 1))
    return Interval(*(tf.constant(end, tf.float32) for end in ends))

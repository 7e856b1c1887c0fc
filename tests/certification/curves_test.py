"""Tests of functions that bend one way: between their bounds and lines, and as near to them as they can be."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg.certification import Interval, curves

# Each with what it computes in float64, and the decades of what it is tried on.
CURVES = {
    "exponential": (curves.exponential, np.exp, None),
    "logarithm": (curves.logarithm, np.log, (-6, 6)),
    "square_root": (curves.square_root, np.sqrt, (-6, 6)),
    "inverse_square_root": (curves.inverse_square_root, lambda x: x**-0.5, (-6, 6)),
    "reciprocal": (curves.reciprocal, lambda x: 1 / x, (-6, 6)),
}


def intervals(decades, count=4000):
    """Random intervals of all widths, of positive numbers, or else from -60 to 60."""
    random = np.random.RandomState(0)
    ends = 10 ** random.uniform(*decades, [2, count]) if decades else random.uniform(-60, 60, [2, count])
    ends[1] = ends[0] + (ends[1] - ends[0]) * 10 ** random.uniform(-7, 0, count)
    return Interval(*(tf.constant(end(ends, axis=0), tf.float32) for end in (np.min, np.max)))


def points(interval, count=301):
    low, high = (np.float64(end) for end in interval)
    return low + np.linspace(0, 1, count)[:, np.newaxis] * (high - low)


class CurvesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*CURVES)
    def test_interval(self, name):
        make, function, decades = CURVES[name]
        interval = intervals(decades)
        values = function(points(interval))
        low, high = map(np.float64, make().interval(interval))
        self.assertAllLessEqual(low - values.min(axis=0), 0)
        self.assertAllLessEqual(values.max(axis=0) - high, 0)
        slack = 1e-5 * np.abs(values).max(axis=0)
        self.assertAllLessEqual(values.min(axis=0) - low - slack, 0)
        self.assertAllLessEqual(high - values.max(axis=0) - slack, 0)

    @parameterized.parameters(*CURVES)
    def test_lines(self, name):
        make, function, decades = CURVES[name]
        interval = intervals(decades)
        x = points(interval)
        values = function(x)
        low_slope, low_intercept, high_slope, high_intercept = map(np.float64, make().relax(interval))
        below, above = low_slope * x + low_intercept, high_slope * x + high_intercept
        self.assertAllLessEqual(below - values, 0)
        self.assertAllLessEqual(values - above, 0)
        # One touches the function at both ends, the other in the middle.
        chord, tangent = (above, below) if make()._is_convex else (below, above)
        slack = 3e-5 * (
            np.abs(values).max(axis=0) + np.maximum(*map(np.abs, (low_slope, high_slope))) * np.abs(x).max(axis=0)
        )
        self.assertAllLessEqual(np.abs(chord - values)[[0, -1]].min(axis=0) - slack, 0)
        self.assertAllLessEqual(np.abs(tangent - values)[150] - slack, 0)

    def test_nothing_is_known_where_it_may_not_be_defined(self):
        low, high = tf.constant([-1.0, 0.0, -1.0]), tf.constant([1.0, 1.0, -0.5])
        for make in (curves.logarithm, curves.inverse_square_root, curves.reciprocal):
            inputs = Interval(low, high)
            self.assertAllClose([*make().interval(inputs)], [[-3e38] * 3, [3e38] * 3])
            self.assertAllClose([*make().relax(inputs)], [[0.0] * 3, [-3e38] * 3, [0.0] * 3, [3e38] * 3])
        least, greatest = curves.exponential().interval(Interval(tf.constant([60.0]), tf.constant([80.0])))
        self.assertLess(least, np.exp(60))
        self.assertGreater(greatest, np.exp(80))

    def test_a_root_of_what_is_less_than_zero_by_rounding(self):
        inputs = Interval(tf.constant([-1e-7, 0.0]), tf.constant([4.0, 0.0]))
        low, high = curves.square_root().interval(inputs)
        self.assertAllClose(low, [0.0, 0.0], atol=1e-4)
        self.assertAllClose(high, [2.0, 0.0], atol=1e-4)
        low_slope, low_intercept, high_slope, high_intercept = curves.square_root().relax(inputs)
        self.assertAllClose(low_slope * inputs.high + low_intercept, [2.0, 0.0], atol=1e-4)
        self.assertAllClose(high_slope * 2.0 + high_intercept, [2**0.5, 0.0], atol=1e-4)


if __name__ == "__main__":
    tf.test.main()

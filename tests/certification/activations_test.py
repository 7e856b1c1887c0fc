"""Tests that no activation leaves its interval, or passes its lines, on intervals of every width."""

import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.certification import activations

# Each step, and what it computes, in float64.
SQUARE_ROOT = fr.certification.Smooth(
    lambda x: tf.sqrt(1 + x**2), lambda x: x / tf.sqrt(1 + x**2), extrema=(0.0,), far=5000.0
)
STEEP = fr.certification.Smooth(lambda x: 1000 * tf.tanh(x), lambda x: 1000 * (1 - tf.tanh(x) ** 2), inflections=(0.0,))
BENT = fr.certification.Smooth(lambda x: tf.math.softplus(100 * x), lambda x: 100 * tf.sigmoid(100 * x))
STEPS = {
    "relu": (activations.LeakyReLU(), tf.nn.relu),
    "leaky_relu": (activations.LeakyReLU(0.2), lambda x: tf.nn.leaky_relu(x, 0.2)),
    "tanh": (activations.tanh(), tf.tanh),
    "sigmoid": (activations.Sigmoid(), tf.sigmoid),
    "softplus": (activations.softplus(), tf.math.softplus),
    "swish": (activations.swish(), tf.nn.silu),
    "elu": (activations.elu(), tf.nn.elu),
    "relu6": (activations.Clipped(6.0), tf.nn.relu6),
    "steep": (STEEP, lambda x: 1000 * tf.tanh(x)),
    "bent": (BENT, lambda x: tf.math.softplus(100 * x)),
    "square_root": (SQUARE_ROOT, lambda x: tf.sqrt(1 + x**2)),
    "gelu": (activations.gelu(), tf.nn.gelu),
}


def intervals(count=4000):
    """Random intervals, of widths from 1e-6 to 1e3, in float32."""
    random = np.random.RandomState(0)
    center = random.randn(count) * 10 ** random.uniform(-2, 1.5, count)
    width = 10 ** random.uniform(-6, 3, count)
    return fr.certification.Interval(*(tf.constant(center + sign * width / 2, tf.float32) for sign in (-1, 1)))


def points(interval, count=1001):
    """Points of each interval, in float64: `[count, intervals]`."""
    low, high = (np.float64(end.numpy()) for end in interval)
    return low + np.linspace(0, 1, count)[:, np.newaxis] * (high - low)


class ActivationsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*STEPS)
    def test_interval(self, name):
        step, function = STEPS[name]
        interval = intervals()
        values = function(points(interval)).numpy()
        low, high = (end.numpy() for end in step.interval(interval))
        scale = 1 + np.abs(values).max(axis=0)
        self.assertAllLessEqual((low - values.min(axis=0)) / scale, 1e-6)
        self.assertAllLessEqual((values.max(axis=0) - high) / scale, 1e-6)
        self.assertAllLessEqual((values.min(axis=0) - low) / scale, 1e-3)  # As tight as the points are dense.

    @parameterized.parameters(*STEPS)
    def test_lines(self, name):
        step, function = STEPS[name]
        interval = intervals()
        x = points(interval)
        values = function(x).numpy()
        low_slope, low_intercept, high_slope, high_intercept = (
            np.float64(part.numpy()) for part in step.relax(interval)
        )
        rounding = 1e-6 * (1 + np.abs(values).max(axis=0))
        self.assertAllLessEqual((low_slope * x + low_intercept - values - rounding).max(axis=0), 0)
        self.assertAllLessEqual((values - high_slope * x - high_intercept - rounding).max(axis=0), 0)

    @parameterized.parameters(*STEPS)
    def test_lines_are_tight(self, name):
        step, function = STEPS[name]
        for width, most in ((1e-4, 3e-5), (0.1, 2e-3), (2.0, 0.6)):
            center = np.linspace(-3, 3, 40) + 0.011  # Off the kink.
            interval = fr.certification.Interval(
                *(tf.constant(center + sign * width / 2, tf.float32) for sign in (-1, 1))
            )
            low_slope, low_intercept, high_slope, high_intercept = step.relax(interval)
            gap = (high_slope - low_slope) * interval.center + high_intercept - low_intercept
            is_straight = np.abs(center) > width / 2 if "relu" in name else center < np.inf
            steepness = max(1, np.abs(high_slope).max())
            self.assertLess(np.max(gap.numpy()[is_straight]), most * steepness, width)

    def test_interval_of_gelu_where_it_is_nearly_zero(self):
        x = np.float32(np.linspace(-6, -4.5, 3001))
        values = [value * math.erfc(-value / math.sqrt(2)) / 2 for value in np.float64(x)]
        low, high = activations.gelu().interval(fr.certification.Interval(tf.constant(x), tf.constant(x)))
        for number in (values, np.float64(tf.nn.gelu(x))):
            self.assertAllLessEqual(np.float64(low) - number, 1e-12)
            self.assertAllLessEqual(number - np.float64(high), 1e-12)

    def test_relu_by_hand(self):
        interval = fr.certification.Interval(
            *(tf.constant(end) for end in ([-3.0, -1.0, 1.0, -2.0], [1.0, 3.0, 2.0, -1.0]))
        )
        lines = activations.LeakyReLU().relax(interval)
        self.assertAllClose(lines, [[0, 1, 1, 0], [0, 0, 0, 0], [0.25, 0.75, 1, 0], [0.75, 0.75, 0, 0]])

    def test_softmax_within_its_interval(self):
        random = np.random.RandomState(0)
        center, radius = 3 * random.randn(20, 5), random.rand(20, 5)
        interval = fr.certification.Interval(tf.constant(center - radius), tf.constant(center + radius))
        low, high = activations.Softmax().interval(interval)
        tried = tf.nn.softmax(center + radius * random.choice([-1, 1], [2000, 20, 5])).numpy()
        self.assertAllClose(tried.min(axis=0), low)  # Corners are among what is tried.
        self.assertAllClose(tried.max(axis=0), high)


if __name__ == "__main__":
    tf.test.main()

"""Tests that no activation leaves its interval, or passes its lines, on intervals of every width."""

import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.certification import activations
from keras_flowreg.certification.activation_rules import ACTIVATIONS, elu

# Each step, and what it computes, in float64.
SQUARE_ROOT = fr.certification.Smooth(
    lambda x: tf.sqrt(1 + x**2), lambda x: x / tf.sqrt(1 + x**2), extrema=(0.0,), far=5000.0
)
STEEP = fr.certification.Smooth(lambda x: 1000 * tf.tanh(x), lambda x: 1000 * (1 - tf.tanh(x) ** 2), inflections=(0.0,))
BENT = fr.certification.Smooth(lambda x: tf.math.softplus(100 * x), lambda x: 100 * tf.sigmoid(100 * x))
STEPS = {
    "steep": (STEEP, lambda x: 1000 * tf.tanh(x)),
    "bent": (BENT, lambda x: tf.math.softplus(100 * x)),
    "square_root": (SQUARE_ROOT, lambda x: tf.sqrt(1 + x**2)),
    "relu": (activations.LeakyReLU(), tf.nn.relu),
    "relu6": (activations.Clipped(6.0), tf.nn.relu6),
    "leaky_relu": (activations.LeakyReLU(0.2), lambda x: tf.nn.leaky_relu(x, 0.2)),
    "relu_that_rises_below": (activations.ParametricReLU(-0.5), lambda x: tf.where(x > 0, x, -0.5 * x)),
    "relu_that_is_steep_below": (activations.ParametricReLU(2.0), lambda x: tf.where(x > 0, x, 2 * x)),
    "tanh": (ACTIVATIONS["tanh"](), tf.tanh),
    "hard_tanh": (ACTIVATIONS["hard_tanh"](), lambda x: tf.clip_by_value(x, -1, 1)),
    "sigmoid": (ACTIVATIONS["sigmoid"](), tf.sigmoid),
    "hard_sigmoid": (ACTIVATIONS["hard_sigmoid"](), lambda x: keras.activations.hard_sigmoid(tf.constant(x))),
    "log_sigmoid": (ACTIVATIONS["log_sigmoid"](), tf.math.log_sigmoid),
    "softplus": (ACTIVATIONS["softplus"](), tf.math.softplus),
    "softsign": (ACTIVATIONS["softsign"](), tf.nn.softsign),
    "swish": (ACTIVATIONS["swish"](), tf.nn.silu),
    "hard_swish": (ACTIVATIONS["hard_swish"](), lambda x: x * tf.nn.relu6(x + 3) / 6),
    "mish": (ACTIVATIONS["mish"](), lambda x: x * tf.tanh(tf.math.softplus(x))),
    "gelu": (ACTIVATIONS["gelu"](), tf.nn.gelu),
    "elu": (ACTIVATIONS["elu"](), tf.nn.elu),
    "elu_with_a_kink": (elu(0.3), lambda x: tf.where(x > 0, x, 0.3 * tf.math.expm1(x))),
    "selu": (ACTIVATIONS["selu"](), tf.nn.selu),
}
KINKS = {
    "hard_tanh": (-1, 1),
    "hard_sigmoid": (-3, -2.5, 2.5, 3),
    "hard_swish": (-3, 3),
    "elu_with_a_kink": (0,),
    "selu": (0,),
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
        for width, most in ((1e-4, 3e-5), (0.1, 2.5e-3), (2.0, 0.6)):
            center = np.linspace(-3, 3, 40) + 0.011  # Off the kink.
            interval = fr.certification.Interval(
                *(tf.constant(center + sign * width / 2, tf.float32) for sign in (-1, 1))
            )
            low_slope, low_intercept, high_slope, high_intercept = step.relax(interval)
            gap = (high_slope - low_slope) * interval.center + high_intercept - low_intercept
            kinks = (0, 6) if "relu" in name else KINKS.get(name, ())
            is_straight = np.all([np.abs(center - kink) > width / 2 for kink in (*kinks, np.inf)], axis=0)
            steepness = max(1, np.abs(high_slope).max())
            self.assertLess(np.max(gap.numpy()[is_straight]), most * steepness, width)

    def test_interval_of_gelu_where_it_is_nearly_zero(self):
        x = np.float32(np.linspace(-6, -4.5, 3001))
        values = [value * math.erfc(-value / math.sqrt(2)) / 2 for value in np.float64(x)]
        low, high = ACTIVATIONS["gelu"]().interval(fr.certification.Interval(tf.constant(x), tf.constant(x)))
        for number in (values, np.float64(tf.nn.gelu(x))):
            self.assertAllLessEqual(np.float64(low) - number, 1e-12)
            self.assertAllLessEqual(number - np.float64(high), 1e-12)

    def test_relu_by_hand(self):
        interval = fr.certification.Interval(
            *(tf.constant(end) for end in ([-3.0, -1.0, 1.0, -2.0], [1.0, 3.0, 2.0, -1.0]))
        )
        lines = activations.LeakyReLU().relax(interval)
        self.assertAllClose(lines, [[0, 1, 1, 0], [0, 0, 0, 0], [0.25, 0.75, 1, 0], [0.75, 0.75, 0, 0]])


def softmax(values):
    """In double precision."""
    shares = np.exp(values - np.max(values, axis=-1, keepdims=True))
    return shares / np.sum(shares, axis=-1, keepdims=True)


class SoftmaxTest(tf.test.TestCase, parameterized.TestCase):
    def intervals(self, width, offset=0.0):
        random = np.random.RandomState(0)
        center, radius = offset + 3 * random.randn(20, 5), width * random.rand(20, 5)
        interval = fr.certification.Interval(*(tf.constant(center + s * radius, tf.float32) for s in (-1, 1)))
        low, high = map(np.float64, interval)
        corners = random.choice([0.0, 1.0], [2000, 20, 5])
        return interval, low + np.concatenate([corners, random.rand(2000, 20, 5)]) * (high - low)

    def test_the_interval_is_that_of_the_corners(self):
        interval, tried = self.intervals(width=1.0)
        low, high = fr.certification.Softmax().interval(interval)
        self.assertAllClose(softmax(tried).min(axis=0), low, rtol=1e-5)
        self.assertAllClose(softmax(tried).max(axis=0), high, rtol=1e-5)

    @parameterized.product(width=[0.0, 1e-4, 1e-2, 0.3, 3.0, 30.0, 3000.0], offset=[0.0, 100.0])
    def test_no_value_passes_a_plane(self, width, offset):
        interval, tried = self.intervals(width, offset)
        low_slopes, low, high_slopes, high = map(np.float64, fr.certification.Softmax().relax(interval))
        values = softmax(tried)
        for gap in (
            values - np.einsum("eij,tej->tei", low_slopes, tried) - low,
            np.einsum("eij,tej->tei", high_slopes, tried) + high - values,
        ):
            self.assertAllGreaterEqual(gap, 0)
        if width == 1e-2 and not offset:  # They are near to second order.
            self.assertLess(np.max(high - low + np.einsum("eij,ej->ei", high_slopes - low_slopes, tried[0])), 1e-4)


if __name__ == "__main__":
    tf.test.main()

"""Tests of bounds against CROWN as it is published, written with matrices in NumPy."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

import keras_flowreg as fr
from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.reach import Reach, reach
from tests.certification import networks

SHAPE, UNITS = (3, 4, 1), (9, 8, 7, 3)
IMAGES = networks.images(1, SHAPE)
EPSILON = 0.2


def affine_layers(model):
    """`[(weights [outputs, inputs], bias)]`, in float64."""
    arrays = [np.float64(array) for array in model.get_weights()]
    return [(weights.T, bias) for weights, bias in zip(arrays[::2], arrays[1::2])]


def interval_bounds(network, low, high):
    """Of every value before a ReLU: interval arithmetic."""
    found = []
    for weights, bias in network:
        if found:
            low, high = np.maximum(low, 0), np.maximum(high, 0)
        positive, negative = np.maximum(weights, 0), np.minimum(weights, 0)
        low, high = positive @ low + negative @ high + bias, positive @ high + negative @ low + bias
        found.append((low, high))
    return found


def crown(network, between, low, high):
    """A lower bound of each output of the last layer: the linear form goes back, through a line for each ReLU."""
    weights, constant = network[-1]
    for (inner, bias), (least, greatest) in reversed(list(zip(network[:-1], between))):
        open_ = (least < 0) & (greatest > 0)
        chord = np.where(open_, greatest / np.where(open_, greatest - least, 1), greatest > 0)
        below = np.where(open_, greatest > -least, greatest > 0)
        intercept = np.where(open_, -chord * least, 0)
        positive, negative = np.maximum(weights, 0), np.minimum(weights, 0)
        constant = constant + negative @ intercept
        weights = positive * below + negative * chord
        constant, weights = constant + weights @ bias, weights @ inner
    return np.maximum(weights, 0) @ low + np.minimum(weights, 0) @ high + constant


def crown_everywhere(network, low, high):
    """CROWN for every layer, the one before it with the bounds that are found so far."""
    found = []
    for depth in range(1, len(network) + 1):
        part = network[:depth]
        negated = [*part[:-1], (-part[-1][0], -part[-1][1])]
        pair = crown(part, found, low, high), -crown(negated, found, low, high)
        by_intervals = interval_bounds(part, low, high)[-1]
        found.append((np.maximum(pair[0], by_intervals[0]), np.minimum(pair[1], by_intervals[1])))
    return found


class PublishedTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        hidden = [layers.Dense(units, activation="relu") for units in UNITS[:-1]]
        stack = [keras.Input(SHAPE), layers.Flatten(), *hidden, layers.Dense(UNITS[-1])]
        self.model = networks.randomize(keras.Sequential(stack))
        reachable = reach(IMAGES, EPSILON, "linf")
        self.low, self.high = (np.float64(end).ravel() for end in reachable.box)
        self.bounds = Bounds(networks.network_of(self.model), reachable, rounding=0.0)
        self.forms = tf.constant(np.concatenate([np.eye(3), -np.eye(3)])[np.newaxis], tf.float32)
        # The forms are one more affine layer, joined to the last one.
        *first, (weights, bias) = affine_layers(self.model)
        forms = np.float64(self.forms[0])
        self.network = [*first, (forms @ weights, forms @ bias)]

    def test_intervals(self):
        expected = interval_bounds(self.network, self.low, self.high)[-1][0]
        self.assertAllClose(self.bounds.minimum_by_intervals(self.forms)[0], expected, rtol=1e-4, atol=1e-4)

    def test_crown_ibp(self):
        between = interval_bounds(self.network[:-1], self.low, self.high)
        expected = crown(self.network, between, self.low, self.high)
        self.assertAllClose(self.bounds.minimum(self.forms)[0], expected, rtol=1e-4, atol=1e-4)

    def test_crown(self):
        between = crown_everywhere(self.network[:-1], self.low, self.high)
        expected = crown(self.network, between, self.low, self.high)
        self.bounds.tighten()
        self.assertAllClose(self.bounds.minimum(self.forms)[0], expected, rtol=1e-3, atol=1e-3)


class RoundingTest(tf.test.TestCase, parameterized.TestCase):
    """Large terms that cancel each other, against arithmetic in float64."""

    def expect_below(self, model, logits, images):
        """Checks bounds of every difference of logits, of images that do not move."""
        pairs = np.eye(UNITS[-1])[:, np.newaxis] - np.eye(UNITS[-1])
        forms = pairs[~np.eye(UNITS[-1], dtype=bool)]
        repeated = tf.constant(np.tile(forms, [len(images), 1, 1]), tf.float32)
        bounds = Bounds(networks.network_of(model), Reach(Interval(tf.constant(images), tf.constant(images))))
        found = [bounds.minimum_by_intervals(repeated), bounds.minimum(repeated)]
        bounds.tighten()
        for bound in (*found, bounds.minimum(repeated)):
            self.assertAllLessEqual(np.float64(bound) - logits @ forms.T, 0)

    @parameterized.parameters(1e3, 1e4, 1e5)
    def test_large_values_before_a_kernel_that_sums_to_zero(self, bias):
        hidden = [layers.Dense(256, activation="relu"), layers.Dense(256, activation="relu")]
        model = networks.randomize(
            keras.Sequential([keras.Input(SHAPE), layers.Flatten(), *hidden, layers.Dense(UNITS[-1])])
        )
        hidden[0].bias.assign(hidden[0].bias + bias)
        hidden[1].kernel.assign(hidden[1].kernel - tf.reduce_mean(hidden[1].kernel, axis=0))
        images = networks.images(16, SHAPE)
        values = np.float64(images).reshape(16, -1)
        for weights, offset in affine_layers(model):
            values = np.maximum(values, 0) @ weights.T + offset  # Images are not negative.
        self.expect_below(model, values, images)

    @parameterized.parameters(1e2, 1e4)
    def test_coefficients_that_cancel(self, size):
        # What two layers make of an image together is a thousandth of what the first one does.
        first, second = layers.Dense(256), layers.Dense(UNITS[-1])
        model = networks.randomize(keras.Sequential([keras.Input(SHAPE), layers.Flatten(), first, second]))
        first.kernel.assign(size * (first.kernel[:, :1] + 1e-3 * first.kernel))
        second.kernel.assign(second.kernel - tf.reduce_mean(second.kernel, axis=0))
        images = networks.images(16, SHAPE)
        values = np.float64(images).reshape(16, -1)
        for weights, offset in affine_layers(model):
            values = values @ weights.T + offset
        self.expect_below(model, values, images)

    @parameterized.named_parameters(
        ("dense", lambda: layers.Dense(8), (4096,), 4096),
        ("convolution", lambda: layers.Conv2D(8, 3), (3, 3, 512), 9 * 512),
        ("depthwise", lambda: layers.DepthwiseConv2D(7), (7, 7, 8), 49),
        ("separable", lambda: layers.SeparableConv2D(8, 3), (3, 3, 512), 9 * 512),
        ("mean", layers.GlobalAveragePooling2D, (96, 96, 8), 96**2),
        ("pooling", lambda: layers.AveragePooling2D(32), (32, 32, 8), 32**2),
    )
    def test_equal_terms_round_as_much_as_is_allowed_for(self, make, shape, count):
        model = keras.Sequential([keras.Input(shape), make()])
        kernels = [np.full_like(weights, 0.37 * (weights.ndim > 1)) for weights in model.get_weights()]
        model.set_weights(kernels)
        sums = np.prod([np.float64(np.float32(0.37))] * sum(kernel.ndim > 1 for kernel in kernels)) * count
        sums = 1.0 if not kernels else sums
        values = np.random.RandomState(0).uniform(0.05, 1, 40).astype("float32")
        for value in values:
            images = np.full([1, *shape], value)
            network = networks.network_of(model)
            interval = network.intervals(Interval(tf.constant(images), tf.constant(images)), 5e-7)[network.output]
            exact = np.float64(value) * sums
            computed = np.float64(model(images))
            for number in (exact, computed):
                self.assertAllLessEqual(np.float64(interval.low) - number, 0)
                self.assertAllLessEqual(number - np.float64(interval.high), 0)

    def test_a_shift_that_cancels_what_a_normalization_subtracts(self):
        normalization, dense = layers.BatchNormalization(epsilon=1.0), layers.Dense(UNITS[-1])
        model = keras.Sequential([keras.Input((2, 2, 1)), normalization, layers.Flatten(), dense])
        images = np.full([1, 2, 2, 1], 1e-3, "float32")
        random = np.random.RandomState(0)
        for size in 10 ** random.uniform(1, 3, 16):
            gamma, mean = np.float32(random.randn(2) * size)
            beta = np.float32(np.float64(gamma) * mean)
            normalization.set_weights([np.float32([value]) for value in (gamma, beta, mean, 0)])
            kernel = random.randn(4, UNITS[-1]).astype("float32")
            dense.set_weights([kernel, np.zeros(UNITS[-1], "float32")])
            values = (np.float64(images) - mean) * gamma + beta
            self.expect_below(model, values.reshape(1, -1) @ np.float64(kernel), images)

    def test_a_mean_of_many_equal_numbers(self):
        # Two halves of the channels, whose means are rounded to opposite sides, cancel each other.
        dense = layers.Dense(UNITS[-1])
        model = keras.Sequential([keras.Input((64, 64, 8)), layers.GlobalAveragePooling2D(), dense])
        values = np.float32([0.49299523, 0.59001225])
        kernel = np.random.RandomState(0).randn(8, UNITS[-1]).astype("float32")
        kernel[:4] = 2500 / values[0]
        kernel[4:] = -2500 / values[1]
        kernel[:, 1:] *= -np.arange(1, UNITS[-1])
        dense.set_weights([kernel, np.zeros(UNITS[-1], "float32")])
        images = np.repeat(values, 4) * np.ones([1, 64, 64, 8], "float32")
        self.expect_below(model, np.float64(images[:, 0, 0]) @ np.float64(kernel), images)
        self.expect_below(model, np.float64(model(images)), images)

    def test_an_input_that_goes_into_many_equal_outputs(self):
        spread = layers.Conv2D(512, 3, padding="same")
        gathered = layers.Conv2D(UNITS[-1], 1)
        model = keras.Sequential([keras.Input((3, 3, 1)), spread, gathered, layers.GlobalAveragePooling2D()])
        for value, weight in np.random.RandomState(0).uniform(0.1, 1, [16, 2]).astype("float32"):
            spread.set_weights([np.full([3, 3, 1, 512], weight), np.zeros(512)])
            kernel = np.broadcast_to(weight * np.arange(UNITS[-1], dtype="float32"), [1, 1, 512, UNITS[-1]])
            gathered.set_weights([kernel, np.zeros(UNITS[-1])])
            images = np.zeros([1, 3, 3, 1], "float32")
            images[0, 1, 1] = value
            self.expect_below(
                model, 512 * np.float64(value) * np.float64(weight) * np.float64(kernel[0, 0, :1]), images
            )

    @parameterized.named_parameters(
        ("sum", lambda pixel, zeros: layers.Add()([pixel, pixel * zeros])),
        ("constant", lambda pixel, zeros: pixel + zeros),
        ("greatest", lambda pixel, zeros: layers.Maximum()([pixel, pixel * zeros - 1.0])),
        ("product", lambda pixel, zeros: layers.Multiply()([pixel, pixel * zeros + 1.0])),
    )
    def test_a_pixel_that_is_repeated_over_an_image(self, repeated):
        # Sums of four make one pixel of it again, so that none of them is of many terms.
        sums = [layers.DepthwiseConv2D(2, strides=2, use_bias=False) for _ in range(6)]
        inputs = keras.Input((1, 1, 3))
        image = keras.Sequential([*sums, layers.Flatten()])(repeated(inputs, np.zeros([64, 64, 1], "float32")))
        model = keras.Model(inputs, image)
        forms = np.float32([[[1, 1, 1], [-1, -1, -1]]])
        for weight, value in np.random.RandomState(0).uniform(0.1, 1, [16, 2]).astype("float32"):
            model.set_weights([np.full([2, 2, 3, 1], weight)] * len(sums))
            logits = np.full([1, 3], np.float64(value) * (4 * np.float64(weight)) ** len(sums))
            pixel = tf.fill([1, 1, 1, 3], value)
            bounds = Bounds(networks.network_of(model), Reach(Interval(pixel, pixel)))
            for bound in (bounds.minimum_by_intervals(forms), bounds.minimum(forms)):
                self.assertAllLessEqual(np.float64(bound) - forms @ logits[0], 0)

    def test_small_terms_among_large_ones_that_cancel(self):
        values = tf.constant([[1e8, *[1.0] * 4096, -1e8]])
        self.assertAllEqual(Interval(values, values).minimum(tf.ones_like(values)), [4096])

    def test_tightened_intervals_leave_less_to_rounding(self):
        """Wide intervals before must not count afterwards."""
        network = networks.network_of(networks.table()[1]["layer_normalization"]())
        images = networks.images(2)
        forms = tf.eye(networks.CLASSES, batch_shape=[2])
        at_once, asked_before = (Bounds(network, reach(images, 0.05, "linf")) for _ in range(2))
        loose = asked_before.minimum(forms)
        for bounds in (at_once, asked_before):
            bounds.tighten()
        self.assertAllEqual(at_once.minimum(forms), asked_before.minimum(forms))
        self.assertAllGreater(at_once.minimum(forms) - loose, 0)

    def test_examples_do_not_change_what_is_known_of_all(self):
        model, images = networks.table()[1]["relu"](), networks.images(4)
        bounds, fresh = (
            Bounds(networks.network_of(model), Reach(Interval(images - radius, images + radius)))
            for radius in [np.reshape([0, 0, 0, 9], [4, 1, 1, 1]).astype("float32")] * 2
        )
        forms = tf.eye(networks.CLASSES, batch_shape=[4])
        bounds.of([0]).minimum(forms[:1])
        self.assertAllEqual(bounds.minimum(forms), fresh.minimum(forms))

    def test_no_margin_is_above_the_lead_of_the_model(self):
        model = networks.chain(layers.Conv2D(4, 3, activation="relu"))
        images = networks.images(4)
        logits = model.predict(images, verbose=0)
        labels = logits.argmin(axis=1)
        for method, bound in (("ibp", "minimum_by_intervals"), ("crown_ibp", "minimum"), ("auto", "minimum")):
            with mock.patch.object(Bounds, bound, lambda self, forms: 9 + tf.zeros(forms.shape[:2])):
                certificate = fr.certify(model, images, labels, 0.1, method=method)
            self.assertAllLessEqual(certificate.margin - (logits.min(axis=1) - logits.max(axis=1)), 0)
            self.assertFalse(np.any(certificate.certified))


if __name__ == "__main__":
    tf.test.main()

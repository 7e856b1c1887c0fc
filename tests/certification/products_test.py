"""Tests of products, squares and inverse roots: between their planes and lines, and as near to them as can be."""

import itertools

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.certification import Interval, InverseRoot, Product, Square
from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.reach import Reach
from tests.certification import networks


def intervals(shapes, size=1.0, width=1.0, seed=0):
    random = np.random.RandomState(seed)
    centers = [size * random.randn(*shape) for shape in shapes]
    radii = [width * random.rand(*shape) for shape in shapes]
    return [
        Interval(*(tf.constant(center + sign * radius, tf.float32) for sign in (-1, 1)))
        for center, radius in zip(centers, radii)
    ]


def corners(inputs):
    """All ways to take an end of each input, in double precision."""
    return [[np.float64(end) for end in ends] for ends in itertools.product(*inputs)]


class ProductTest(tf.test.TestCase, parameterized.TestCase):
    def test_the_interval_is_that_of_the_corners(self):
        inputs = intervals([(8, 5, 4)] * 3)
        products = [np.prod(ends, axis=0) for ends in corners(inputs)]
        low, high = Product().interval(*inputs)
        self.assertAllClose(low, np.min(products, axis=0), rtol=1e-5, atol=1e-6)
        self.assertAllClose(high, np.max(products, axis=0), rtol=1e-5, atol=1e-6)

    @parameterized.parameters(2, 3)
    def test_the_plane_is_as_far_as_it_says(self, count):
        inputs = intervals([(8, 5, 4)] * count)
        *slopes, constant, error = map(np.float64, Product().relax(*inputs))
        gaps = [
            np.abs(np.prod(ends, axis=0) - sum(map(np.multiply, slopes, ends)) - constant) for ends in corners(inputs)
        ]
        self.assertAllLessEqual(np.max(gaps, axis=0) - error, 1e-5)
        if count == 2:
            self.assertAllClose(np.max(gaps, axis=0), error, rtol=1e-4, atol=1e-6)

    def test_inputs_that_are_repeated(self):
        shapes = [(2, 3, 3, 4), (2, 1, 1, 4), (2, 4), (2, 3, 1)]
        inputs = intervals(shapes, width=0.0)
        values = [value for value, _ in inputs]
        model_inputs = [keras.Input(shape[1:]) for shape in shapes]
        expected = keras.Model(model_inputs, keras.layers.Multiply()(model_inputs))(values)
        self.assertAllClose(Product().value(*values), expected)
        coefficients = tf.constant(np.random.RandomState(1).randn(*expected.shape), tf.float32)
        parts, _ = Product().backward(coefficients, [shape[1:] for shape in shapes], Product().relax(*inputs))
        with tf.GradientTape() as tape:
            tape.watch(values)
            output = Product().value(*values)
        for part, gradient in zip(parts, tape.gradient(output, values, coefficients)):
            self.assertAllClose(part, gradient, rtol=1e-4, atol=1e-5)


class LinesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.0, 1e-3, 1.0, 1e3)
    def test_square(self, width):
        (inputs,) = intervals([(64,)], size=3.0, width=width)
        self.expect_between(Square(), inputs, np.square, np.float64(inputs.center) * 2)

    @parameterized.product(width=[0.0, 1e-3, 1.0, 1e3], epsilon=[1e-6, 1e-3])
    def test_inverse_root(self, width, epsilon):
        (inputs,) = intervals([(64,)], size=3.0, width=width)
        inputs = Interval(*map(tf.nn.relu, inputs))
        middle = np.float64(inputs.center)
        slope = -((middle + epsilon) ** -1.5) / 2
        self.expect_between(InverseRoot(epsilon), inputs, lambda x: (x + epsilon) ** -0.5, slope)

    def expect_between(self, step, inputs, function, tangent):
        low, high = map(np.float64, inputs)
        below, below_at_zero, above, above_at_zero = map(np.float64, step.relax(inputs))
        self.assertAllClose(below, tangent, rtol=1e-4)
        for part in np.linspace(0, 1, 33):
            place = low + part * (high - low)
            value = function(place)
            self.assertAllLessEqual(below * place + below_at_zero - value, 0)
            self.assertAllLessEqual(value - above * place - above_at_zero, 0)
            self.assertAllLessEqual(np.float64(step.interval(inputs).low) - value, 0)
            self.assertAllLessEqual(value - np.float64(step.interval(inputs).high), 0)
        for end in (low, high):  # The chord meets it there.
            slack = 1e-5 * (np.abs(above) * np.maximum(np.abs(low), np.abs(high)) + np.abs(function(end)))
            self.assertAllLessEqual(above * end + above_at_zero - function(end) - slack, 0)


class NormalizedTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("layer", lambda: keras.layers.LayerNormalization(), 11),
        ("layer_of_all", lambda: keras.layers.LayerNormalization([1, 2, 3]), 47),
        ("group", lambda: keras.layers.GroupNormalization(2), 23),
        ("unit", lambda: keras.layers.UnitNormalization(), 1),
    )
    def test_the_interval_ends_at_what_is_reached(self, make, square):
        shape, greatest = (2, 2, 12), square**0.5
        model = keras.Sequential([keras.Input(shape), make(), keras.layers.Flatten()])
        network = networks.network_of(model)
        wide = Interval(tf.fill([1, *shape], -1e4), tf.fill([1, *shape], 1e4))
        low, high = network.intervals(wide)[-1]
        self.assertAllClose(high, np.full([1, 48], greatest), rtol=1e-4)
        self.assertAllClose(low, np.full([1, 48], -greatest), rtol=1e-4)
        peak = np.zeros([1, *shape], "float32")
        peak[0, 0, 0, 0] = 1e4
        self.assertAllClose(np.max(network.values(peak)[-1]), greatest, rtol=1e-3)

    def test_lines(self):
        step = fr.certification.Normalized(lambda inputs: 2.0)
        inputs = Interval(tf.constant([[-1.0, -9.0]]), tf.constant([[2.0, 0.5]]))
        below, below_at_zero, above, above_at_zero = step.relax(inputs)
        self.assertAllClose(below, [[1, 0]])
        self.assertAllClose(above, [[1, 0]])
        self.assertAllClose(below_at_zero, [[0, -2]], atol=1e-4)
        self.assertAllClose(above_at_zero, [[0, 2]], atol=1e-4)
        self.assertAllEqual(step.is_loose(inputs), [[False, True]])


class RoundingTest(tf.test.TestCase):
    def test_a_normalization_of_what_hardly_varies(self):
        """Against double precision: the mean is a thousand times the deviation."""
        model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.LayerNormalization(), keras.layers.Flatten()])
        images = (1000 + np.random.RandomState(0).randn(4, 4, 4, 3)).astype("float32")
        centered = np.float64(images) - np.mean(np.float64(images), axis=-1, keepdims=True)
        exact = centered / np.sqrt(np.mean(centered**2, axis=-1, keepdims=True) + 1e-3)
        bounds = Bounds(networks.network_of(model), Reach(Interval(tf.constant(images), tf.constant(images))))
        forms = tf.eye(48, batch_shape=[4])
        for sign in (1, -1):
            for least in (bounds.minimum(sign * forms), bounds.minimum_by_intervals(sign * forms)):
                gap = sign * exact.reshape(4, 48) - np.float64(least)
                self.assertAllGreaterEqual(gap, 0)
                self.assertAllLess(gap, 0.1)


class TakingTest(tf.test.TestCase):
    def test_a_layer_that_takes_its_input_twice(self):
        class Gate(keras.layers.Layer):
            def call(self, inputs):
                return inputs * tf.sigmoid(inputs)

        @fr.certification.register_rule(Gate)
        def _gate(layer):
            return [fr.certification.Sigmoid(), fr.certification.Taking(Product(), (0, 1))]

        images = np.random.RandomState(0).rand(2, 6, 6, 1).astype("float32")

        def margins(activation):
            keras.utils.set_random_seed(0)
            stack = [keras.layers.Conv2D(4, 3), activation, keras.layers.Flatten(), keras.layers.Dense(3)]
            model = keras.Sequential([keras.Input((6, 6, 1)), *stack])
            return fr.certify(model, images, np.argmax(model(images), axis=1), epsilon=0.05, method="crown").margin

        swish, own = margins(keras.layers.Activation("swish")), margins(Gate())
        self.assertAllLessEqual(own - swish, 1e-4)
        self.assertAllClose(swish, own, atol=0.02)


if __name__ == "__main__":
    tf.test.main()

"""Tests of batch normalization's derivatives, against those of its definition in float64."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg.ops.normalization import batch_normalization

EPSILON = 0.02
WRAPPERS = {"eager": lambda f: f, "graph": tf.function, "xla": lambda f: tf.function(f, jit_compile=True)}


def definition(inputs, scale, offset):
    axes = list(range(inputs.shape.rank - 1))
    mean = tf.reduce_mean(inputs, axes)
    variance = tf.reduce_mean(tf.square(inputs - mean), axes)
    return scale * (inputs - mean) / tf.sqrt(variance + EPSILON) + offset


def ours(inputs, scale, offset):
    return batch_normalization(inputs, scale, offset, EPSILON)[0]


def draw(shape):
    """Inputs, scale, offset, and an upstream for each of the output and the three derivatives."""
    random = np.random.RandomState(0)
    inputs, scale, offset = 2 * random.randn(*shape) + 1, random.randn(shape[-1]), random.randn(shape[-1])
    return inputs, scale, offset, random.randn(*shape), random.randn(*shape), *random.randn(2, shape[-1])


def derivatives(function, dtype, shape, penalized):
    """The first derivatives, and those of a product with the penalized ones."""
    inputs, scale, offset, upstream, *seconds = (tf.constant(values, dtype) for values in draw(shape))
    places = [inputs, scale, offset, upstream]
    with tf.GradientTape() as outer:
        outer.watch(places)
        with tf.GradientTape() as inner:
            inner.watch(places[:3])
            # Not linear in the output: the upstream depends on all the places too.
            value = tf.reduce_sum(upstream * tf.sin(function(inputs, scale, offset)))
        first = inner.gradient(value, places[:3])
        products = [tf.reduce_sum(first[index] * seconds[index]) for index in penalized]
        total = tf.add_n(products) + value
    return first, outer.gradient(total, places)


class BatchNormalizationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        shape=[(40, 3), (8, 5, 3), (6, 5, 4, 3)], penalized=[(0,), (1,), (2,), (0, 1, 2)], wrapper=sorted(WRAPPERS)
    )
    def test_derivatives_of_both_orders(self, shape, penalized, wrapper):
        expected = derivatives(definition, tf.float64, shape, penalized)
        measured = WRAPPERS[wrapper](lambda: derivatives(ours, tf.float32, shape, penalized))()
        for order, (our_order, their_order) in enumerate(zip(measured, expected)):
            for our, their in zip(our_order, their_order):
                self.assertAllClose(our, their, atol=1e-5 * np.max(np.abs(their)), msg=f"order {order + 1}")

    def test_values_and_biased_variance(self):
        inputs, scale, offset, *_ = (tf.constant(values, tf.float32) for values in draw((6, 5, 4, 3)))
        output, mean, variance = batch_normalization(inputs, scale, offset, EPSILON)
        self.assertAllClose(output, definition(inputs, scale, offset), atol=1e-5)
        self.assertAllClose(mean, np.mean(inputs, axis=(0, 1, 2)), atol=1e-5)
        self.assertAllClose(variance, np.var(inputs, axis=(0, 1, 2)), rtol=1e-5)

    def test_derivatives_where_the_scale_is_zero(self):
        inputs, _, offset, upstream, second, *_ = (tf.constant(values, tf.float32) for values in draw((40, 3)))
        scale = tf.zeros([3])

        def of_scale(function):
            with tf.GradientTape() as outer:
                outer.watch(scale)
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    output = function(inputs, scale, offset)
                first = inner.gradient(output, inputs, output_gradients=upstream)
            return outer.gradient(first, scale, output_gradients=second)

        self.assertAllClose(of_scale(ours), of_scale(definition), rtol=1e-4)

    @parameterized.parameters(tf.float16, tf.bfloat16)
    def test_half_precision(self, dtype):
        inputs, scale, offset, upstream, second, *_ = (tf.constant(values, tf.float32) for values in draw((6, 5, 4, 3)))

        def penalty_gradient(function, dtype):
            images = tf.cast(inputs, dtype)
            with tf.GradientTape() as outer:
                outer.watch(images)
                with tf.GradientTape() as inner:
                    inner.watch(images)
                    value = tf.reduce_sum(tf.cast(function(images, scale, offset), tf.float32) * upstream)
                product = tf.reduce_sum(tf.cast(inner.gradient(value, images), tf.float32) * second)
            return outer.gradient(product, images)

        measured = penalty_gradient(ours, dtype)
        self.assertEqual(measured.dtype, dtype)
        expected = penalty_gradient(definition, tf.float32)
        error = np.linalg.norm(tf.cast(measured, tf.float32) - expected) / np.linalg.norm(expected)
        self.assertLess(error, 0.02)

    def test_one_value_and_none(self):
        scale, offset = tf.constant([2.0, 3.0]), tf.constant([0.5, -0.5])
        for count in (0, 1):
            inputs = 7 * tf.ones([count, 2])
            with tf.GradientTape() as tape:
                tape.watch([inputs, scale, offset])
                output, mean, variance = batch_normalization(inputs, scale, offset)
            self.assertAllClose(output, tf.repeat(offset[tf.newaxis], count, axis=0))
            self.assertAllClose(mean, [7.0 * count] * 2)
            self.assertAllClose(variance, [0.0] * 2)
            for derivative, expected in zip(tape.gradient(output, [inputs, scale, offset]), (0, 0, count)):
                self.assertAllClose(derivative, expected * tf.ones_like(derivative))

    def test_a_third_derivative_is_an_error(self):
        inputs, scale, offset, *_ = (tf.constant(values, tf.float32) for values in draw((40, 3)))
        with tf.GradientTape() as third:
            third.watch(inputs)
            with tf.GradientTape() as second:
                second.watch(inputs)
                with tf.GradientTape() as first:
                    first.watch(inputs)
                    value = tf.reduce_sum(ours(inputs, scale, offset) ** 3)
                slope = tf.reduce_sum(first.gradient(value, inputs) ** 3)
            curvature = tf.reduce_sum(second.gradient(slope, inputs) ** 3)
        with self.assertRaisesRegex(LookupError, "at most two derivatives"):
            third.gradient(curvature, inputs)


if __name__ == "__main__":
    tf.test.main()

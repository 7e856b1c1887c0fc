"""Tests that the check finds the layers whose second derivative is wrong, and no others."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import checks
from tests import testing

layers = keras.layers


class HeldMean(layers.Layer):
    """Standardizes each pixel's channels, with the mean held fixed in the variance."""

    def call(self, inputs):
        mean = tf.reduce_mean(inputs, -1, keepdims=True)
        difference = tf.math.squared_difference(inputs, tf.stop_gradient(mean))
        return (inputs - mean) / tf.sqrt(tf.reduce_mean(difference, -1, keepdims=True) + 0.01)


class RawResize(layers.Layer):
    """Calls an operation whose gradient TensorFlow cannot differentiate."""

    def call(self, inputs):
        return tf.raw_ops.ResizeBilinear(images=inputs, size=[5, 5])


class Quantized(layers.Layer):
    def call(self, inputs):
        return tf.quantization.fake_quant_with_min_max_args(inputs, -1.0, 1.0)


class Cut(layers.Layer):
    """Its gradient is a constant to TensorFlow, which it is not."""

    def call(self, inputs):
        @tf.custom_gradient
        def squared(values):
            return values**2, lambda upstream: upstream * tf.stop_gradient(2 * values)

        return squared(inputs)


class OwnModel(keras.Model):
    """A model that does in its own `call` what should be a layer's."""

    def __init__(self, faulty):
        super().__init__()
        self.convolution = layers.Conv2D(4, 3)
        self.dense = layers.Dense(3)
        self.faulty = faulty

    def call(self, images):
        features = self.convolution(images)
        if self.faulty:
            features = tf.raw_ops.ResizeBilinear(images=features, size=[5, 5])
        return self.dense(tf.reshape(tf.nn.tanh(features), [-1, 5 * 5 * 4 if self.faulty else 6 * 8 * 4]))


class SecondDerivativeTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, _ = testing.data(6)

    @parameterized.parameters(
        (HeldMean, r"off by \d+ %"),
        (RawResize, "no second derivative: .*ResizeBilinearGrad|does not reach"),
        (Quantized, "no second derivative: .*FakeQuant|does not reach"),
        (Cut, "off by 100 %"),
    )
    def test_a_faulty_layer_is_named(self, faulty, reason):
        model = testing.network(layers.BatchNormalization(), faulty(name="suspect"), layers.Dense(4, activation="tanh"))
        (found,) = checks.second_derivative(model, self.images)
        self.assertEqual((found.name, found.kind), ("suspect", faulty.__name__))
        self.assertRegex(str(found), reason)

    @parameterized.parameters(
        layers.BatchNormalization,
        layers.LayerNormalization,
        lambda: layers.GroupNormalization(2),
        lambda: layers.MaxPooling2D(3, 2),
        lambda: layers.Resizing(5, 5),
        lambda: layers.Dropout(0.5),
        lambda: layers.GaussianNoise(0.5),
        lambda: layers.Dense(200, activation="relu"),
        lambda: layers.Lambda(lambda inputs: tf.nn.moments(inputs, [1, 2], keepdims=True)[1] * inputs),
    )
    def test_good_layers_are_not(self, good):
        self.assertEqual(checks.second_derivative(testing.network(good(), layers.ReLU()), self.images), [])

    @parameterized.parameters(True, False)
    def test_operations_outside_of_layers(self, faulty):
        found = checks.second_derivative(OwnModel(faulty), self.images)
        self.assertEqual([layer.kind for layer in found], ["OwnModel"] * faulty)

    def test_chance_in_a_model_of_its_own_call_hides_nothing(self):
        model = OwnModel(True)
        model.dropout = layers.Dropout(0.3)
        call = model.call
        model.call = lambda images, training=None: model.dropout(call(images), training=training)
        self.assertLen(checks.second_derivative(model, self.images), 1)

    def test_a_model_that_is_not_built_yet_draws_again(self):
        class Dropped(testing.Subclassed):
            def __init__(self):
                super().__init__()
                self.dropout = layers.Dropout(0.5)

            def call(self, images, training=None):
                return self.dropout(super().call(images), training=training)

        checks.expect_repeatable_draws(Dropped(), tf.TensorShape([None, *testing.SHAPE]))

    @parameterized.parameters(True, False)
    def test_layers_of_a_class_are_tried_one_by_one(self, as_function):
        class Own(layers.Layer):
            def __init__(self, function, **options):
                super().__init__(**options)
                self.function = function

            def call(self, inputs):
                return self.function(inputs)

        kind = layers.Lambda if as_function else Own
        model = testing.network(kind(lambda x: tf.tanh(x), name="good"), kind(Cut().call, name="bad"))
        (found,) = checks.second_derivative(model, self.images)
        self.assertEqual(found.name, "bad")

    def test_layers_of_packages_that_are_named_like_keras(self):
        class Own(HeldMean):
            pass

        Own.__module__ = "keras_cv.layers"
        model = testing.regularized(testing.network(Own()))
        with self.assertRaisesRegex(ValueError, "its second derivative is off by"):
            testing.fit(model)

    def test_float64(self):
        class Own(layers.Layer):
            def call(self, inputs):
                return tf.tanh(inputs)

        stack = [layers.Flatten(dtype="float64"), Own(dtype="float64"), layers.Dense(4, dtype="float64")]
        model = testing.regularized(keras.Sequential([keras.Input(testing.SHAPE, dtype="float64"), *stack]))
        images, labels = testing.data(8)
        model.fit(images.astype("float64"), labels, verbose=0)

    def test_a_graph_inside_of_the_model(self):
        class Sometimes(layers.Layer):
            def __init__(self):
                super().__init__()
                self.pool = layers.MaxPooling2D(1)

            def call(self, inputs):
                return tf.cond(tf.reduce_sum(inputs) < 1e9, lambda: self.pool(inputs), lambda: tf.identity(inputs))

        model = testing.network(Sometimes())
        with self.assertRaisesRegex(ValueError, "finite_difference"):
            testing.fit(testing.regularized(model))

    def test_nested_models(self):
        inner = keras.Sequential([layers.Conv2D(3, 2), HeldMean()])
        self.assertLen(checks.second_derivative(testing.network(inner), self.images), 1)

    def test_the_model_is_left_as_it_was(self):
        model = testing.network(layers.BatchNormalization(), layers.Dropout(0.5))
        before = model.get_weights()
        fr.checks.second_derivative(model, self.images)
        for old, new in zip(before, model.get_weights()):
            self.assertAllEqual(old, new)

    def test_bad_arguments(self):
        with self.assertRaisesRegex(TypeError, "Expected `model`"):
            fr.checks.second_derivative("model", self.images)
        with self.assertRaisesRegex(ValueError, "Expected `images`"):
            fr.checks.second_derivative(testing.network(), np.zeros([4, 4]))


if __name__ == "__main__":
    tf.test.main()

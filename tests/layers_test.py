"""Tests of the Keras layers: the warp, and the counterparts of Keras's own."""

import inspect

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat, layers
from tests import oracle

IMPLEMENTATIONS = ("auto", "native", "tfa") if compat.tfa_dense_image_warp() is not None else ("auto", "native")


class DenseImageWarpTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        random = np.random.RandomState(0)
        self.images = random.rand(2, 4, 6, 3).astype("float32")
        self.flow = random.uniform(-2, 2, [2, 4, 6, 2]).astype("float32")

    def test_the_options_are_those_of_the_function(self):
        def options(function):
            parameters = inspect.signature(function).parameters
            return [(name, parameters[name].default) for name in parameters if name in ("lattice", "implementation")]

        self.assertEqual(options(layers.DenseImageWarp.__init__), options(fr.ops.dense_image_warp))

    @parameterized.parameters(*IMPLEMENTATIONS)
    def test_in_a_functional_model(self, implementation):
        inputs = [keras.Input([4, 6, 3]), keras.Input([4, 6, 2])]
        layer = layers.DenseImageWarp(implementation=implementation)
        model = keras.Model(inputs, layer(*inputs))
        self.assertAllClose(
            model.predict([self.images, self.flow], verbose=0), oracle.warp(self.images, self.flow), atol=1e-5
        )

    @parameterized.product(implementation=IMPLEMENTATIONS, whole=[False, True])
    def test_flow_gradient_is_right_at_integer_positions_too(self, implementation, whole):
        flow = tf.constant(np.round(self.flow) if whole else self.flow)
        with tf.GradientTape() as tape:
            tape.watch(flow)
            output = layers.DenseImageWarp("forward", implementation)(self.images, flow)
        upstream = np.ones_like(self.images)
        self.assertAllClose(
            tape.gradient(output, flow),
            oracle.flow_gradients(self.images, flow.numpy(), upstream, "forward"),
            atol=1e-5,
        )

    def test_configuration_round_trip(self):
        layer = layers.DenseImageWarp("backward", "native", name="warp")
        copy = layers.DenseImageWarp.from_config(layer.get_config())
        self.assertEqual(copy.get_config(), layer.get_config())
        self.assertEqual([copy.implementation, copy.lattice, copy.name], ["native", "backward", "warp"])

    def test_bad_options(self):
        with self.assertRaisesRegex(ValueError, "Expected `implementation`"):
            layers.DenseImageWarp(implementation="best")
        with self.assertRaisesRegex(ValueError, "Expected `lattice`"):
            layers.DenseImageWarp(lattice="two_sided")


class BatchNormalizationTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images = 3 * np.random.RandomState(0).randn(6, 4, 5, 3).astype("float32") + 1

    def pair(self, kind=keras.layers.BatchNormalization, **options):
        """Our layer and Keras's, with the same weights, none of them as they begin."""
        made = layers.BatchNormalization(**options), kind(**options, **compat.unfused_batch_normalization())
        for layer in made:
            layer.build((None, 4, 5, 3))
        weights = [1 + np.random.RandomState(i).rand(*w.shape) for i, w in enumerate(made[0].get_weights())]
        for layer in made:
            layer.set_weights(weights)
        return made

    @parameterized.parameters(
        {}, {"scale": False}, {"center": False}, {"momentum": 0.5, "epsilon": 0.3}, {"axis": 1}, {"axis": 3}
    )
    def test_takes_the_place_of_keras_layer(self, **options):
        ours, theirs = self.pair(**options)
        for training in (True, False, None):
            self.assertAllClose(ours(self.images, training=training), theirs(self.images, training=training), atol=1e-5)
            for our, their in zip(ours.get_weights(), theirs.get_weights()):
                self.assertAllClose(our, their, rtol=1e-5)

    def test_closed_forms_are_taken(self):
        ours, _ = self.pair()
        expected = {True: "FusedBatchNormV3", False: "Rsqrt"}
        for training, operation in expected.items():
            graph = tf.function(ours).get_concrete_function(self.images, training=training).graph
            self.assertIn(operation, {node.op for node in graph.as_graph_def().node})
        small, _ = self.pair(epsilon=1e-6)  # cuDNN does not take it.
        graph = tf.function(small).get_concrete_function(self.images, training=True).graph
        self.assertNotIn("FusedBatchNormV3", {node.op for node in graph.as_graph_def().node})
        with layers.keras_operations():
            graph = tf.function(ours).get_concrete_function(self.images, training=True).graph
        self.assertNotIn("FusedBatchNormV3", {node.op for node in graph.as_graph_def().node})

    def test_a_frozen_layer_uses_its_moving_averages(self):
        ours, theirs = self.pair()
        ours.trainable = theirs.trainable = False
        before = ours.get_weights()
        self.assertAllClose(ours(self.images, training=True), theirs(self.images, training=False), atol=1e-5)
        self.assertAllClose(ours.get_weights(), before)

    def test_no_examples_change_no_average(self):
        ours, _ = self.pair()
        before = ours.get_weights()
        self.assertEqual(ours(self.images[:0], training=True).shape, (0, 4, 5, 3))
        self.assertAllClose(ours.get_weights(), before)

    @parameterized.parameters("mixed_float16", "mixed_bfloat16", "float64")
    def test_precisions(self, policy):
        policy = tf.keras.mixed_precision.Policy(policy) if not compat.KERAS_3 else policy
        ours, theirs = self.pair(dtype=policy)
        output = ours(self.images, training=True)
        self.assertEqual(output.dtype, ours.compute_dtype)
        self.assertAllClose(
            tf.cast(output, tf.float32), tf.cast(theirs(self.images, training=True), tf.float32), atol=0.1
        )
        self.assertAllClose(ours.moving_mean, theirs.moving_mean, rtol=1e-2)

    def test_second_derivative_is_exact_where_kerass_is_not(self):
        ours, theirs = self.pair()
        second, step = np.random.RandomState(1).randn(*self.images.shape), 0.01

        def slope(layer, images):
            images = tf.constant(images, tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(images)
                value = tf.reduce_sum(tf.sin(layer(images, training=True)))
            return tf.reduce_sum(tape.gradient(value, images) * second)

        def derivative(layer):
            images = tf.constant(self.images)
            with tf.GradientTape() as tape:
                tape.watch(images)
                value = slope(layer, images)
            return tf.reduce_sum(tape.gradient(value, images) * second)

        difference = (slope(ours, self.images + step * second) - slope(ours, self.images - step * second)) / (2 * step)
        self.assertAllClose(derivative(ours), difference, rtol=1e-3)
        self.assertGreater(abs(derivative(theirs) / difference - 1), 3e-3)


class MaxPooling2DTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ({}, True), ({"pool_size": 3, "padding": "same"}, True), ({"pool_size": 3, "strides": 2}, False)
    )
    def test_takes_the_place_of_keras_layer(self, options, has_closed_form):
        images = np.random.RandomState(0).randn(2, 7, 8, 3).astype("float32")
        ours = layers.MaxPooling2D(**options)
        self.assertEqual(ours.has_closed_form, has_closed_form)
        self.assertAllEqual(ours(images), keras.layers.MaxPooling2D(**options)(images))

    def test_with_no_images(self):
        self.assertEqual(layers.MaxPooling2D()(tf.zeros([0, 8, 8, 3])).shape, (0, 4, 4, 3))


class TwiceDifferentiableTest(tf.test.TestCase):
    def test_a_model_is_rebuilt_with_counterparts(self):
        class Pooling(keras.layers.MaxPooling2D):
            """Someone's own: not ours to replace."""

        model = keras.Sequential(
            [
                keras.layers.Input([8, 8, 1]),
                keras.layers.Conv2D(3, 3),
                keras.layers.BatchNormalization(momentum=0.7),
                keras.layers.MaxPooling2D(2, name="pool"),
                Pooling(),
            ]
        )
        rebuilt = keras.models.clone_model(model, clone_function=layers.twice_differentiable)
        rebuilt.set_weights(model.get_weights())
        self.assertEqual(
            [type(layer) for layer in rebuilt.layers],
            [keras.layers.Conv2D, layers.BatchNormalization, layers.MaxPooling2D, Pooling],
        )
        self.assertEqual([rebuilt.layers[1].momentum, rebuilt.layers[2].name], [0.7, "pool"])
        images = np.random.RandomState(0).rand(2, 8, 8, 1)
        self.assertAllClose(rebuilt(images), model(images))


if __name__ == "__main__":
    tf.test.main()

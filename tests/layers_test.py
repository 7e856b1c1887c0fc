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


if __name__ == "__main__":
    tf.test.main()

"""Tests that XLA gives the graph's numbers."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from tests import models_test


def network():
    keras.utils.set_random_seed(1)  # of the layers made here
    layers = keras.layers
    return models_test.network(
        layers.BatchNormalization(), layers.MaxPooling2D(), layers.DepthwiseConv2D(2), layers.ReLU()
    )


def trained(jit_compile, **regularizer_options):
    model = models_test.regularized(
        network(), weight=2.0, compile_options={"jit_compile": jit_compile}, **regularizer_options
    )
    # 40 examples: the last batch is smaller.
    return model, models_test.fit(model, size=40)


class XlaTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(random_start=[0.0, 0.3], gradient=["analytic", "tape"])
    def test_training_step(self, random_start, gradient):
        options = {"random_start": random_start, "gradient": gradient}
        graph, expected = trained(False, **options)
        compiled, history = trained(True, **options)
        self.assertTrue(compiled.jit_compile)
        for name, values in expected.items():
            self.assertAllClose(history[name], values, rtol=1e-4, atol=1e-4)
        for ours, theirs in zip(compiled.base_model.get_weights(), graph.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=1e-4)

    @parameterized.parameters("linf", "pixel_l2", "l2")
    def test_attack(self, norm):
        images, labels = models_test.data()
        base = network()

        def attack(jit_compile):
            layer = fr.attacks.FlowPGD(
                base, 0.5, 4, norm=norm, loss=models_test.cross_entropy(), jit_compile=jit_compile
            )
            return layer(images, labels, return_perturbation=True)

        for compiled, graph in zip(attack(True), attack(False)):
            # A sign step amplifies rounding where a gradient is near zero: nearly all agree, not all.
            agree = np.isclose(compiled, graph, atol=1e-4)
            self.assertGreater(agree.mean(), 0.995)

    def test_automatic_choice(self):
        model = models_test.regularized()
        self.assertEqual(bool(model.jit_compile), bool(tf.config.list_physical_devices("GPU")))
        self.assertEqual(compat.jit_compile_on_this_machine(), bool(tf.config.list_physical_devices("GPU")))


if __name__ == "__main__":
    tf.test.main()

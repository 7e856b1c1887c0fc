"""Tests that XLA gives the graph's numbers."""

import os
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from tensorflow.python.framework import config

import keras_flowreg as fr
from keras_flowreg import compat
from tests import testing


def network(pooling=keras.layers.AveragePooling2D, normalization=keras.layers.BatchNormalization):
    keras.utils.set_random_seed(1)  # of the layers made here
    layers = keras.layers
    return testing.network(normalization(), pooling(2), layers.DepthwiseConv2D(2), layers.ReLU())


class Counted(keras.layers.Layer):
    """Hands its input on, and counts how often Python asks it to: when a graph is traced."""

    traces = 0

    def call(self, inputs):
        Counted.traces += 1
        return inputs


def trained(base, jit_compile, size=32, **regularizer_options):
    """A model after an epoch in batches of 16, and its logs."""
    model = testing.regularized(
        base,
        weight=2.0,
        # Larger steps amplify the rounding of one into the next.
        optimizer=keras.optimizers.SGD(0.02),
        compile_options={"jit_compile": jit_compile},
        **regularizer_options,
    )
    return model, testing.fit(model, size=size)


class XlaTest(tf.test.TestCase, parameterized.TestCase):
    # The analytic gradient without a random start is that of the next tests.
    @parameterized.parameters((0.3, "analytic"), (0.0, "tape"), (0.3, "tape"))
    def test_training_step(self, random_start, gradient):
        options = {"random_start": random_start, "gradient": gradient, "size": 40}  # The last batch is smaller.
        graph, expected = trained(network(), False, **options)
        compiled, logs = trained(network(), True, **options)
        self.assertTrue(compiled.jit_compile)
        for name, values in expected.items():
            self.assertAllClose(logs[name], values, rtol=1e-4, atol=1e-4)
        for ours, theirs in zip(compiled.base_model.get_weights(), graph.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=1e-4)
        self.assertNotAllClose(compiled.base_model.get_weights()[0], network().get_weights()[0], atol=2e-3)

    @parameterized.parameters(
        {"penalty_every": 2},
        {"fraction": 0.5},
        {"method": "finite_difference"},
        {"loss": "log_odds"},
        {"model_mode": "inference"},
    )
    def test_other_training_steps(self, **options):
        graph, expected = trained(network(), False, **options)
        compiled, logs = trained(network(), True, **options)
        for name, values in expected.items():
            self.assertAllClose(logs[name], values, rtol=1e-3, atol=1e-4)
        for ours, theirs in zip(compiled.base_model.get_weights(), graph.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=5e-4)

    @parameterized.parameters(2, 3)
    def test_training_step_with_max_pooling(self, size):
        def base():
            return network(lambda _: keras.layers.MaxPooling2D(size, 2))

        graph, expected = trained(base(), False)
        compiled, logs = trained(base(), True)
        for name, values in expected.items():
            self.assertAllClose(logs[name], values, rtol=1e-4, atol=1e-4)
        for ours, theirs in zip(compiled.base_model.get_weights(), graph.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=1e-4)

    @parameterized.parameters("mixed_float16", "mixed_bfloat16")
    def test_max_pooling_in_half_precision(self, policy):
        keras.mixed_precision.set_global_policy(policy)
        self.addCleanup(keras.mixed_precision.set_global_policy, "float32")

        def penalty(jit_compile):
            return trained(network(keras.layers.MaxPooling2D), jit_compile)[1]["gradient_penalty"]

        self.assertAllClose(penalty(True), penalty(False), rtol=0.05)

    @parameterized.parameters("linf", "pixel_l2", "l2")
    def test_attack(self, norm):
        images, labels = testing.data()
        base = network()

        def attack(jit_compile):
            layer = fr.attacks.FlowPGD(0.5, steps=4, norm=norm, loss=testing.cross_entropy(), jit_compile=jit_compile)
            result = layer.run(images, labels, model=base)
            return result.images, result.parameters

        for compiled, graph in zip(attack(True), attack(False)):
            # A sign step amplifies rounding where a gradient is near zero: nearly all agree, not all.
            agree = np.isclose(compiled, graph, atol=1e-4)
            self.assertGreater(agree.mean(), 0.995)

    @parameterized.named_parameters(
        ("frank_wolfe", fr.attacks.FlowFrankWolfe, {"epsilon": 0.5, "steps": 4}),
        ("coordinate_ascent", fr.attacks.FlowCoordinateAscent, {"epsilon": 0.5, "steps": 3, "sweeps": 2, "pixels": 10}),
        ("fgsm", fr.attacks.FlowFGSM, {"epsilon": 0.5}),
        ("random", fr.attacks.RandomFlow, {"epsilon": 0.5, "draws": 4}),
        ("spsa", fr.attacks.FlowSPSA, {"epsilon": 0.5, "queries": 30, "samples": 4}),
        ("square", fr.attacks.FlowSquare, {"epsilon": 0.5, "queries": 10}),
        ("st_adv", fr.attacks.StAdv, {"steps": 6, "searches": 2}),
        ("adef", fr.attacks.ADef, {"steps": 4}),
        ("grid", fr.attacks.RotationTranslation, {"angles": 2, "shifts": 2}),
        ("worst_of_k", fr.attacks.RotationTranslation, {"candidates": "random", "draws": 4}),
    )
    def test_attacks_fool_on_the_same_examples(self, attack, options):
        images, labels = testing.data()
        base = network()
        compiled, graph = (
            attack(**{"loss": testing.cross_entropy(), **options}, jit_compile=jit_compile).run(
                images, labels, model=base
            )
            for jit_compile in (True, False)
        )
        self.assertGreater(np.mean(compiled.success.numpy() == graph.success.numpy()), 0.95)
        self.assertAllClose(np.mean(compiled.loss), np.mean(graph.loss), rtol=1e-2)
        self.assertAllClose(np.mean(compiled.queries), np.mean(graph.queries), rtol=0.1)

    @parameterized.parameters(("float32", False), ("mixed_float16", True))
    def test_one_trace_for_a_whole_fit(self, policy, attacked):
        keras.mixed_precision.set_global_policy(policy)
        self.addCleanup(keras.mixed_precision.set_global_policy, "float32")

        def traces(size, epochs):
            Counted.traces = 0
            base = testing.network(Counted())
            attack = fr.attacks.FlowPGD(0.3, steps=2) if attacked else None
            model = fr.FlowRegularizedModel(base, fr.FlowGradientRegularizer(1.0, random_start=0.2), attack)
            model.compile(keras.optimizers.SGD(0.02), testing.cross_entropy(), jit_compile=True)
            logs = testing.fit(model, size=size, epochs=epochs, callbacks=[fr.callbacks.PenaltyWarmup(1)])
            self.assertAllInRange(logs["loss"], 0.1, 10)
            return Counted.traces

        # 40 images in batches of 16: the last batch of each epoch is smaller.
        self.assertEqual(traces(size=40, epochs=3), traces(size=16, epochs=1))

    def test_one_trace_of_an_attack(self):
        images, labels = testing.data()
        Counted.traces = 0
        base = testing.network(Counted())
        attack = fr.attacks.FlowPGD(0.3, steps=2, loss=testing.cross_entropy(), jit_compile=True)
        attack(images, labels, model=base)
        traces = Counted.traces
        for size in (len(images), 5):
            attack(images[:size], labels[:size], model=base)
        self.assertEqual(Counted.traces, traces)

    def test_automatic_choice(self):
        model = testing.regularized()
        self.assertEqual(bool(model.jit_compile), bool(tf.config.list_physical_devices("GPU")))
        self.assertEqual(compat.jit_compile_on_this_machine(), bool(tf.config.list_physical_devices("GPU")))

    def test_automatic_choice_where_there_is_a_gpu(self):
        with mock.patch.object(compat, "jit_compile_on_this_machine", return_value=True):
            self.assertTrue(testing.regularized(network()).jit_compile)

    @parameterized.parameters(
        (lambda: keras.layers.UpSampling2D(), False),
        (lambda: keras.layers.UpSampling2D(interpolation="bilinear"), True),
        (lambda: keras.Sequential([keras.layers.RandomRotation(0.1)]), False),
        (keras.layers.RandomFlip, True),
    )
    def test_automatic_choice_by_what_xla_knows(self, layer, expected):
        gpu = mock.patch.object(tf.config, "list_physical_devices", return_value=["GPU"])
        with gpu:
            model = testing.regularized(testing.network(layer()), compile_options={"jit_compile": "auto"})
            self.assertEqual(bool(model.jit_compile), expected)
            self.assertEqual(compat.jit_compile_on_this_machine(model), expected)
            with mock.patch.object(config, "is_op_determinism_enabled", return_value=True):
                self.assertFalse(compat.jit_compile_on_this_machine(model))

    def test_what_xla_does_not_know_is_told(self):
        if compat.KERAS_3:
            self.skipTest("Keras 3 compiles no such layers.")
        model = fr.FlowRegularizedModel(testing.network(keras.layers.UpSampling2D()))
        model.compile("sgd", testing.cross_entropy(), jit_compile=True)
        with self.assertRaisesRegex(ValueError, "compile it with jit_compile=False"):
            testing.fit(model)

    @parameterized.parameters(("auto", False), (True, True), (False, False))
    def test_a_saved_choice(self, jit_compile, expected):
        model = testing.regularized(network())
        path = os.path.join(self.get_temp_dir(), "model.keras")
        with mock.patch.object(compat, "jit_compile_on_this_machine", return_value=True):
            model.compile("sgd", testing.cross_entropy(), jit_compile=jit_compile)
            self.assertEqual(bool(model.jit_compile), bool(jit_compile))
            model.save(path)
        with mock.patch.object(compat, "jit_compile_on_this_machine", return_value=False):
            self.assertEqual(bool(keras.models.load_model(path).jit_compile), expected)


if __name__ == "__main__":
    tf.test.main()

"""Tests of the checks: models that mislead an evaluation in one way each, and an honest one."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.evaluation import Run, checks
from tests import testing


@keras.saving.register_keras_serializable(package="checks_test")
class Noise(keras.layers.Layer):
    def call(self, inputs):
        return inputs + tf.random.normal(tf.shape(inputs))


@keras.saving.register_keras_serializable(package="checks_test")
class Rounded(keras.layers.Layer):
    """With a gradient of zero if `keep`, else without one."""

    def __init__(self, keep=False, **options):
        super().__init__(**options)
        self.keep = keep

    def call(self, inputs):
        rounded = tf.round(inputs * 50) / 50
        return rounded + 0 * inputs if self.keep else rounded


@keras.saving.register_keras_serializable(package="checks_test")
class InPython(keras.layers.Layer):
    """Leaves TensorFlow."""

    def call(self, inputs):
        outputs = tf.numpy_function(lambda values: values, [inputs], inputs.dtype)
        return tf.ensure_shape(outputs, inputs.shape)


@keras.saving.register_keras_serializable(package="checks_test")
class Reversed(keras.layers.Layer):
    """The identity, whose gradient is said to point the other way."""

    def call(self, inputs):
        return tf.custom_gradient(lambda images: (tf.identity(images), tf.negative))(inputs)


def trained_network():
    network = testing.network()
    network.compile(keras.optimizers.Adam(0.02), testing.cross_entropy())
    network.fit(*testing.data(128), epochs=15, verbose=0)
    return network


class ChecksTest(tf.test.TestCase):
    def found(self, *layers, loss=None):
        """The checks that find fault with a model of these layers, and the report."""
        model = keras.Sequential([keras.layers.Input(testing.SHAPE), *layers])
        model.compile("sgd", loss or testing.cross_entropy())
        report = fr.evaluate_robustness(model, testing.data(16), fr.attacks.RandomFlow(0.1, draws=1), [0.1], verbose=0)
        return {finding.check for finding in report.findings}, report

    def test_an_honest_model_passes(self):
        found, report = self.found(trained_network())
        self.assertEmpty(found, report.to_markdown())
        self.assertTrue(report.trustworthy)

    def test_a_model_in_half_precision(self):
        policy = keras.mixed_precision.Policy if hasattr(keras.mixed_precision, "Policy") else keras.DTypePolicy
        model = keras.Sequential([keras.Input(testing.SHAPE), keras.layers.Flatten()])
        model.add(keras.layers.Dense(4, dtype=policy("mixed_bfloat16")))
        model.compile("sgd", testing.cross_entropy())
        images, labels = testing.data(16)
        findings = checks.run(model, (images, labels), loss=testing.cross_entropy(), value_range=(0, 1), seed=0)
        self.assertNotIn("model is not random", {finding.check for finding in findings})

    def test_probabilities_taken_for_logits(self):
        found, report = self.found(testing.network(), keras.layers.Softmax())
        self.assertIn("outputs are logits", found)
        self.assertIn("Not to be trusted", report.to_markdown())

    def test_logits_taken_for_probabilities(self):
        found, report = self.found(testing.network(), loss="sparse_categorical_crossentropy")
        self.assertIn("outputs are probabilities", found)
        self.assertIn("from_logits=True", report.to_markdown())
        self.assertNotIn(
            "outputs are probabilities",
            self.found(testing.network(), keras.layers.Softmax(), loss="sparse_categorical_crossentropy")[0],
        )
        of_each = keras.losses.BinaryCrossentropy(name="own")  # Sigmoids do not add up to one.
        self.assertIsNone(checks._outputs(np.array([[0.2, 0.3]]), of_each))

    def test_saturated_outputs_have_no_gradient(self):
        found, _ = self.found(testing.network(), keras.layers.Rescaling(1e6))
        self.assertContainsSubset(["outputs do not saturate", "gradient is not zero"], found)

    def test_random_model(self):
        self.assertIn("model is not random", self.found(testing.network(), Noise())[0])

    def test_the_gradient_is_zero(self):
        self.assertIn("gradient is not zero", self.found(Rounded(keep=True), testing.network())[0])

    def test_invariant_model(self):
        self.assertIn("gradient is not zero", self.found(keras.layers.Rescaling(0.0), testing.network())[0])

    def test_the_gradient_is_masked(self):
        found, report = self.found(Reversed(), trained_network())
        self.assertIn("gradients are not masked", found)
        self.assertIn("on which no attack by gradient does", report.to_markdown())

    def test_no_flow_reaches_zero(self):
        images, labels = testing.data(16)
        images += labels[:, None, None, None]  # Wherever its pixels are taken from, an image keeps its class.
        model = keras.Sequential([keras.Input(testing.SHAPE), keras.layers.GlobalAveragePooling2D()])
        model.add(keras.layers.Dense(testing.CLASSES))
        classes = np.arange(testing.CLASSES)
        # Logits of the nearest class to the mean m: -(m - k - 0.5)^2 / 2, but for what all have in common.
        model.layers[-1].set_weights([np.stack([classes, classes]) / 2, -((classes + 0.5) ** 2) / 2])
        findings = checks.run(model, (images, labels), loss=testing.cross_entropy(), value_range=(0, 5), seed=0)
        self.assertEqual({finding.check for finding in findings}, {"an unbounded attack reaches zero"})
        self.assertIn("100.0% of the examples are still robust", findings[0].message)

    def test_more_steps_leave_more(self):
        def run(attack, *args, **options):
            """Fools half of the examples in 10 steps, and a quarter in 40."""
            return mock.Mock(success=tf.range(16) < (8 if attack.steps == 10 else 4))

        with mock.patch.object(fr.attacks.FlowPGD, "run", run):
            findings = checks.run(
                testing.network(), testing.data(16), loss=testing.cross_entropy(), value_range=(0, 1), seed=0
            )
        messages = {finding.check: finding.message for finding in findings}
        self.assertIn("leaves 0.750 robust in 40 steps and 0.500 in 10", messages["more steps do not help the model"])

    def test_there_is_no_gradient(self):
        for layer in (Rounded(), InPython()):
            found, report = self.found(layer, testing.network())
            self.assertEqual(found, {"gradient exists"}, report.to_markdown())
            self.assertIn("The model has no gradient with respect to its images", report.findings[0].message)

    def test_a_search_that_is_weaker_at_a_larger_radius(self):
        correct = np.ones(100, bool)
        for attack, small, large, message in (
            ("IntensityPGD", 50, 53, "IntensityPGD 0.2 leaves 0.530 robust, and IntensityPGD 0.1 only 0.500: it does"),
            ("FlowPGD", 50, 52, None),  # chance alone
            ("FlowPGD", 60, 40, None),
        ):
            robust = {Run(attack, 0.1): np.arange(100) < small, Run(attack, 0.2): np.arange(100) < large}
            findings = checks.look_at(fr.RobustnessReport({}, {}, 100, correct, robust, {}))
            self.assertLen(findings, 0 if message is None else 1)
            if message is not None:
                self.assertStartsWith(findings[0].message, message)


if __name__ == "__main__":
    tf.test.main()

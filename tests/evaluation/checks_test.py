"""Tests of the checks: models that mislead an evaluation in one way each, and an honest one."""

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.evaluation import checks
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


class ChecksTest(tf.test.TestCase):
    def found(self, *layers, loss=None):
        """The checks that find fault with a model of these layers, and the report."""
        model = keras.Sequential([keras.layers.Input(testing.SHAPE), *layers])
        model.compile("sgd", loss or testing.cross_entropy())
        report = fr.evaluate_robustness(model, testing.data(16), fr.attacks.RandomFlow(0.1, draws=1), [0.1], verbose=0)
        return {finding.check for finding in report.findings}, report

    def test_an_honest_model_passes(self):
        images, labels = testing.data(128)
        network = testing.network()
        network.compile(keras.optimizers.Adam(0.02), testing.cross_entropy())
        network.fit(images, labels, epochs=15, verbose=0)
        found, report = self.found(network)
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

    def test_there_is_no_gradient(self):
        for layer in (Rounded(), InPython()):
            found, report = self.found(layer, testing.network())
            self.assertEqual(found, {"gradient exists"}, report.to_markdown())
            self.assertIn("The model has no gradient with respect to its images", report.findings[0].message)


if __name__ == "__main__":
    tf.test.main()

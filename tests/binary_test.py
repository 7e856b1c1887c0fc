"""Tests of binary classifiers as classifiers of two classes."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from tests import testing


def binary(from_logits):
    keras.utils.set_random_seed(1)
    activation = None if from_logits else "sigmoid"
    model = keras.Sequential(
        [keras.layers.Input(testing.SHAPE), keras.layers.Flatten(), keras.layers.Dense(1, activation=activation)]
    )
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=from_logits))
    return model


class TwoClassesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_loss_and_accuracy_are_the_binary_ones(self, from_logits):
        images, labels = testing.data(16)
        labels = labels % 2
        model = binary(from_logits)
        classifier = fr.two_class_classifier(model)
        expected = fr.ops.per_example_loss(model.loss, labels.astype("float32")[:, None], model(images))
        losses = fr.ops.per_example_loss(classifier.loss, labels, classifier(images))
        self.assertAllClose(losses, expected, rtol=1e-4)
        report = fr.evaluate_robustness(
            # The checks are run on one of the two.
            classifier,
            (images, labels),
            fr.attacks.FlowPGD(0.3, steps=3),
            [0.3],
            check=from_logits,
        )
        is_one = model(images).numpy()[:, 0] > (0 if from_logits else 0.5)
        self.assertAllClose(report.clean_accuracy.value, np.mean(is_one == labels))

    @parameterized.parameters(True, False)
    def test_a_linear_model_is_attacked_as_well_as_can_be(self, from_logits):
        images, labels = testing.data(8)
        labels = labels % 2
        classifier = fr.two_class_classifier(binary(from_logits))
        result = fr.attacks.FlowFrankWolfe(0.5, steps=3).run(images, labels, model=classifier)
        certificate = fr.certify(classifier, images, labels, 0.5)
        self.assertAllEqual(certificate.certified, ~result.success.numpy())

    def test_it_shares_the_weights(self):
        model = binary(True)
        classifier = fr.two_class_classifier(model)
        self.assertLen(classifier.trainable_variables, 2)
        self.assertIs(classifier.trainable_variables[0], model.trainable_variables[0])

    def test_bad_input(self):
        with self.assertRaisesRegex(ValueError, r"predictions of the shape \[batch, 1\]. Received .*4"):
            fr.two_class_classifier(testing.network())
        model = binary(True)
        model.compile("sgd", "mean_squared_error")
        with self.assertRaisesRegex(ValueError, "compiled with a binary cross-entropy"):
            fr.two_class_classifier(model)
        images, labels = testing.data(8)
        with self.assertRaisesRegex(ValueError, "`two_class_classifier` makes such a model of a binary one"):
            fr.attacks.FlowPGD(0.3, steps=2).run(images, labels % 2, model=binary(True))

    def test_a_dictionary_of_predictions(self):
        images = keras.layers.Input(testing.SHAPE)
        model = keras.Model(images, {"logits": keras.layers.Dense(4)(keras.layers.Flatten()(images))})
        with self.assertRaisesRegex(
            ValueError, "Expected `base_model` to give a tensor of predictions. Received a model"
        ):
            fr.FlowRegularizedModel(model)
        fr.FlowRegularizedModel(keras.Model(model.inputs, model.output["logits"]))


if __name__ == "__main__":
    tf.test.main()

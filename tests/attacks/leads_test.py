"""Tests of how far a search has come, against NumPy."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.attacks.classifier import Classifier
from keras_flowreg.attacks.leads import lead_is_below
from keras_flowreg.attacks.raised_loss import RaisedLoss
from keras_flowreg.attacks.search import Candidate, Examples, Objective
from tests import testing

SIZE = 24


def lead(predictions, labels):
    rows = np.arange(len(labels))
    others = predictions.copy()
    others[rows, labels] = -np.inf
    return predictions[rows, labels] - others.max(axis=1)


class LeadIsBelowTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, _ = testing.data(SIZE)
        self.logits = testing.network()
        self.flow = tf.random.stateless_uniform([SIZE, 8, 10, 2], [1, 2], -0.9, 0.9)
        self.warped = fr.ops.dense_image_warp(self.images, self.flow)
        self.labels = np.argmax(self.logits(self.images), axis=1)

    def below(self, part, model, loss, targeted=False):
        success = tf.zeros([SIZE], bool)
        best = Candidate(self.flow, success, tf.zeros([SIZE]), tf.ones([SIZE], tf.int32))
        positions = tf.range(SIZE)
        images, labels = tf.constant(self.images), tf.constant(self.labels)
        examples = Examples(images, labels, tf.zeros([SIZE]), positions, tf.constant(SIZE), True, True)
        objective = Objective(Classifier(model), RaisedLoss(loss, targeted), fr.perturbations.Flow(), (0.0, 1.0))
        return lead_is_below(part, objective, examples, best).numpy()

    def leads(self):
        return (lead(self.logits(images).numpy(), self.labels) for images in (self.images, self.warped))

    @parameterized.parameters(testing.cross_entropy(), fr.ops.MarginLoss())
    def test_lead_is_that_of_the_logits(self, loss):
        clean, found = self.leads()
        expected = found < 0.6 * clean
        self.assertTrue(expected.any() and not expected.all())
        self.assertAllEqual(self.below(0.6, self.logits, loss), expected)

    def test_softmax_hides_no_lead(self):
        clean, found = self.leads()
        probabilities = keras.Sequential([self.logits, keras.layers.Softmax()])
        loss = keras.losses.SparseCategoricalCrossentropy()
        self.assertAllEqual(self.below(0.6, probabilities, loss), found < 0.6 * clean)

    def test_target_has_its_lead_to_catch_up(self):
        self.labels = np.argmin(self.logits(self.images), axis=1)
        clean, found = self.leads()
        expected = found > 0.8 * clean
        self.assertTrue(expected.any() and not expected.all())
        self.assertAllEqual(self.below(0.8, self.logits, testing.cross_entropy(), targeted=True), expected)


if __name__ == "__main__":
    tf.test.main()

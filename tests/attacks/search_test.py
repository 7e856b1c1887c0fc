"""Tests of what every search is made of."""

import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.attacks import search
from keras_flowreg.attacks.raised_loss import RaisedLoss
from tests import testing


def examples(clean_loss, compact=False, stop_when_fooled=True):
    batch = len(clean_loss)
    images, labels = tf.zeros([batch, 2, 2, 1]), tf.zeros([batch], tf.int64)
    return search.Examples(
        images, labels, tf.constant(clean_loss), tf.range(batch), tf.constant(batch), compact, stop_when_fooled
    )


def candidate(parameters, success, loss):
    ones = tf.ones([len(loss)], tf.int32)
    return search.Candidate(tf.constant(parameters), tf.constant(success), tf.constant(loss), ones)


class KeepBestTest(tf.test.TestCase):
    def kept(self, best, new, **options):
        kept = search.keep_best(
            candidate([[1.0]], *([part] for part in best)),
            candidate([[-1.0]], *([part] for part in new)),
            examples([0.5], **options),
        )
        return "new" if kept.parameters[0, 0] < 0 else "best"

    def test_order(self):
        nan = float("nan")
        for best, new, expected in (
            ((False, 1.0), (False, 2.0), "new"),
            ((False, 2.0), (False, 1.0), "best"),
            ((False, 9.0), (True, 0.6), "new"),
            # The class may change at a lower loss than the clean image's.
            ((False, 0.5), (True, 0.4), "new"),
            ((True, 1.0), (True, 2.0), "best"),
            ((False, 1.0), (False, nan), "best"),
            ((False, 1.0), (True, nan), "best"),
        ):
            self.assertEqual(self.kept(best, new), expected, (best, new))
        self.assertEqual(self.kept((True, 1.0), (True, 2.0), stop_when_fooled=False), "new")
        self.assertEqual(self.kept((True, 1.0), (False, 2.0), stop_when_fooled=False), "best")
        self.assertEqual(self.kept((False, 0.5), (True, 0.4), stop_when_fooled=False), "best")


class IterateTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_each_example_ends_with_its_first_success(self, compact):
        """Example k is fooled in step k; its state counts the steps that it took."""
        worked = []

        def step(count, examples, state):
            worked.append(tf.size(examples.positions))
            success = examples.positions <= count
            steps = tf.cast(count, tf.float32) * tf.ones_like(examples.clean_loss)
            return search.Candidate(steps[:, tf.newaxis], success, steps, tf.ones_like(success, tf.int32)), state + 1

        best = candidate([[-1.0]] * 4, [False] * 4, [-1.0] * 4)
        best, state = search.iterate(step, 3, examples([-1.0] * 4, compact), best, tf.zeros([4]))
        self.assertAllEqual(best.success, [True, True, True, False])
        self.assertAllEqual(best.parameters[:, 0], [0, 1, 2, 2])
        self.assertAllEqual(best.queries, [2, 3, 4, 4])
        if compact:
            self.assertAllEqual(worked, [4, 3, 2])
            self.assertAllEqual(state, [1, 2, 3, 3])

    def test_draws_do_not_depend_on_who_is_left(self):
        whole = examples([0.0] * 4, compact=True)
        left = whole.take([1, 3])
        self.assertAllEqual(left.draw(lambda batch: 10 * tf.range(batch)), [10, 30])


class ObjectiveTest(tf.test.TestCase):
    def test_gradient_is_the_perturbations_pullback(self):
        images, labels = testing.data(4)
        model = testing.network()
        flow = tf.random.stateless_uniform([4, 8, 10, 2], [1, 2], -0.4, 0.4)
        objective = search.Objective(
            fr.attacks.classifier.Classifier(model),
            RaisedLoss(testing.cross_entropy(), False),
            fr.perturbations.Flow(),
            (0.0, 1.0),
        )
        whole = examples([0.0] * 4)._replace(images=tf.constant(images), labels=tf.constant(labels))
        found, gradient = objective.query_with_gradient(whole, flow)
        expected = fr.flow_gradients(model, images, labels, testing.cross_entropy(), flow=flow)
        self.assertAllClose(gradient, expected, atol=1e-6)
        warped = fr.ops.dense_image_warp(images, flow)
        self.assertAllClose(found.loss, fr.ops.per_example_loss(testing.cross_entropy(), labels, model(warped)))
        target = objective._replace(raised=RaisedLoss(testing.cross_entropy(), True)).query(whole, flow)
        self.assertAllClose(target.loss, -found.loss)
        self.assertAllEqual(target.success, ~found.success.numpy())


if __name__ == "__main__":
    tf.test.main()

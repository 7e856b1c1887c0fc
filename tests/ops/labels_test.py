"""Tests of what labels say of predictions."""

import numpy as np
import tensorflow as tf

from keras_flowreg.ops.labels import are_one_hot, is_correct, look_like_probabilities, other_class, split_predictions

LOGITS = np.array([[2.0, 1.0, 0.0], [0.5, -1.0, 3.0]], "float32")


class LabelsTest(tf.test.TestCase):
    def test_other_classes_in_their_order(self):
        predictions = tf.constant([[0.1, 0.5, 0.3, 0.2], [4.0, 1.0, 2.0, 3.0]])
        for labels in ([1, 3], [[1], [3]], np.eye(4)[[1, 3]], np.eye(4, dtype=bool)[[1, 3]]):
            for rank, expected in enumerate([[2, 0], [3, 2], [0, 1], [2, 0]]):
                found = other_class(tf.constant(labels), predictions, rank)
                self.assertEqual((found.dtype, found.shape), (tf.constant(labels).dtype, np.shape(labels)))
                self.assertAllEqual(
                    np.argmax(np.float32(found), axis=1) if found.shape[1:] == 4 else np.ravel(found), expected
                )

    def test_a_softmax_in_half_precision_looks_like_probabilities(self):
        probabilities = tf.nn.softmax(tf.random.stateless_normal([64, 10], (0, 0), dtype=tf.bfloat16))
        self.assertTrue(look_like_probabilities(np.float32(probabilities)))
        self.assertFalse(look_like_probabilities(1.1 * np.float32(probabilities)))

    def test_is_correct(self):
        logits = tf.constant(LOGITS)
        self.assertAllEqual(is_correct(tf.constant([0, 1]), logits), [True, False])
        self.assertAllEqual(is_correct(tf.constant([[0], [2]]), logits), [True, True])
        self.assertAllEqual(is_correct(tf.one_hot([1, 2], 3), logits), [False, True])
        with self.assertRaisesRegex(ValueError, "at least two classes"):
            is_correct(tf.constant([0, 1]), logits[:, :1])

    def test_split_predictions(self):
        for labels in (tf.constant([0, 1]), tf.constant([[0], [1]]), tf.one_hot([0, 1], 3)):
            label, others = split_predictions(labels, tf.constant(LOGITS))
            self.assertAllEqual(label, [2.0, -1.0])
            self.assertAllEqual(tf.reduce_max(others, axis=1), [1.0, 3.0])

    def test_one_hot(self):
        shapes = {(2,): False, (2, 1): False, (2, 3): True}
        self.assertEqual({shape: are_one_hot(tf.zeros(shape)) for shape in shapes}, shapes)


if __name__ == "__main__":
    tf.test.main()

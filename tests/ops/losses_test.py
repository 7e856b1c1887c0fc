"""Tests of per-example losses."""

import types

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from keras_flowreg.ops import per_example_loss
from keras_flowreg.ops.losses import compiled_loss, expect_labels_in_range, name_of, resolve_loss, takes_logits

LOGITS = np.array([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]], "float32")
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
CLASSES = np.array([0, 1])
CROSS_ENTROPIES = -np.log(PROBABILITIES[[0, 1], CLASSES])


class PerExampleLossTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("sum", "none", "sum_over_batch_size")
    def test_reduction_is_not_used(self, reduction):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        self.assertAllClose(per_example_loss(loss, CLASSES, tf.constant(LOGITS)), CROSS_ENTROPIES)
        self.assertAllClose(per_example_loss(loss, CLASSES[:, None], tf.constant(LOGITS)), CROSS_ENTROPIES)

    def test_arrays(self):
        self.assertAllClose(per_example_loss(fr.ops.MarginLoss(), CLASSES, LOGITS), [-1.5, 2.0])

    def test_one_hot_probabilities_and_names(self):
        one_hot = np.eye(3, dtype="float32")[CLASSES]
        for loss in (keras.losses.CategoricalCrossentropy(), "categorical_crossentropy"):
            loss = resolve_loss(loss, None)
            self.assertAllClose(per_example_loss(loss, one_hot, tf.constant(PROBABILITIES)), CROSS_ENTROPIES)

    def test_binary_loss_of_one_column(self):
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        logits = np.array([[0.0], [2.0]], "float32")
        expected = [np.log(2), np.log1p(np.exp(-2.0))]
        self.assertAllClose(per_example_loss(loss, np.array([1, 1]), tf.constant(logits)), expected)

    def test_half_precision_is_widened(self):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        values = per_example_loss(loss, CLASSES, tf.constant(LOGITS, tf.float16))
        self.assertEqual(values.dtype, tf.float32)
        self.assertAllClose(values, CROSS_ENTROPIES, rtol=1e-3)

    def test_reduced_function_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "one value for each example.*scalar"):
            per_example_loss(lambda y, p: tf.reduce_mean(p), CLASSES, tf.constant(LOGITS))

    def test_indices_come_as_in_training(self):
        def loss(labels, predictions):
            """Right for `[batch]` or for `[batch, 1]`, as this Keras has them; the other one would mix the examples."""
            labels = labels if compat.KERAS_3 else labels[:, 0]
            chosen = tf.one_hot(tf.cast(labels, tf.int32), 3) * tf.nn.log_softmax(predictions)
            return -tf.reduce_sum(chosen, axis=-1)

        model = keras.Sequential([keras.Input([3]), keras.layers.Activation("linear")])
        model.compile("sgd", loss)
        values = per_example_loss(compiled_loss(model), CLASSES, tf.constant(LOGITS))
        self.assertAllClose(values, CROSS_ENTROPIES)
        self.assertAllClose(model.evaluate(LOGITS, CLASSES, verbose=0), np.mean(CROSS_ENTROPIES))

    @parameterized.parameters("int32", "int64", "uint8", "float32", "float64")
    def test_labels_come_as_in_training(self, dtype):
        seen = []

        def loss(labels, predictions):
            seen.append((labels.dtype, labels.shape.rank))
            return tf.reduce_sum(tf.square(tf.cast(labels, predictions.dtype) - predictions), axis=1)

        model = keras.Sequential([keras.Input([3]), keras.layers.Activation("linear")])
        model.compile("sgd", loss)
        one_hot = np.eye(3)[CLASSES].astype(dtype)
        model.evaluate(LOGITS, one_hot, verbose=0)
        expected, seen[:] = set(seen), []
        values = per_example_loss(compiled_loss(model), one_hot, tf.constant(LOGITS))
        self.assertEqual(set(seen), expected)
        self.assertAllClose(values, np.square(one_hot - LOGITS).sum(axis=1))


class ResolveLossTest(tf.test.TestCase):
    def test_compiled_loss(self):
        model = keras.Sequential([keras.layers.Input([4]), keras.layers.Dense(3)])
        self.assertIsNone(compiled_loss(model))
        with self.assertRaisesRegex(ValueError, "Expected a loss.*not compiled"):
            resolve_loss(None, compiled_loss(model))
        for compiled in ("mse", ["mse"]):
            model.compile(loss=compiled)
            loss = resolve_loss(None, compiled_loss(model))
            self.assertAllClose(loss(tf.ones([2, 3]), tf.zeros([2, 3])), [1.0, 1.0])

    def test_names(self):
        class Unnamed(keras.losses.Loss):
            def call(self, y_true, y_pred):
                return tf.reduce_sum(y_pred, axis=-1)

        self.assertEqual(name_of(keras.losses.MeanSquaredError(name="mine")), "mine")
        self.assertEqual(name_of(per_example_loss), "per_example_loss")
        self.assertIn(name_of(Unnamed()), ("Unnamed", "unnamed"))  # Keras 3 names it itself.

    def test_several_losses_are_an_error(self):
        with self.assertRaisesRegex(ValueError, "Expected one loss.*Received 2"):
            compiled_loss(types.SimpleNamespace(loss=["mse", "mae"]))


class LabelsTest(tf.test.TestCase):
    def test_out_of_range(self):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for label in (-1, 3):
            with self.assertRaisesRegex(ValueError, "Expected labels from 0 to 2"):
                expect_labels_in_range(tf.constant([0, label]), tf.constant(LOGITS), loss)
        self.assertAllEqual(expect_labels_in_range(tf.constant([0, 2]), tf.constant(LOGITS), loss), [0, 2])


class MarginLossTest(tf.test.TestCase):
    def test_margin_by_hand(self):
        predictions = tf.constant([[1.0, 4.0, 2.0], [-1.0, -5.0, -2.0]])
        for labels in (np.array([1, 2]), np.array([[1], [2]]), np.eye(3, dtype="float32")[[1, 2]]):
            margins = fr.ops.per_example_loss(fr.ops.MarginLoss(), labels, predictions)
            self.assertAllClose(margins, [2.0 - 4.0, -1.0 + 2.0])

    def test_gradient(self):
        predictions = tf.Variable([[1.0, 4.0, 2.0]])
        with tf.GradientTape() as tape:
            loss = fr.ops.MarginLoss()(np.array([1]), predictions)
        self.assertAllClose(tape.gradient(loss, predictions), [[0.0, -1.0, 1.0]])


class LogOddsLossTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(from_logits=[True, False], one_hot=[True, False], dtype=["float32", "float64"])
    def test_log_odds_of_the_labels_probability(self, from_logits, one_hot, dtype):
        predictions = tf.constant(LOGITS if from_logits else PROBABILITIES, dtype)
        labels = np.eye(3, dtype="float32")[CLASSES] if one_hot else CLASSES
        label = PROBABILITIES[[0, 1], CLASSES]
        values = per_example_loss(fr.ops.LogOddsLoss(from_logits), labels, predictions)
        self.assertEqual(values.dtype, dtype)
        self.assertAllClose(values, np.log((1 - label) / label), rtol=1e-5)
        self.assertAllClose(np.log1p(np.exp(values)), CROSS_ENTROPIES, rtol=1e-5)

    @parameterized.parameters(True, False)
    def test_gradient_does_not_vanish_where_the_cross_entropys_does(self, from_logits):
        logits = tf.Variable([[12.0, 8.0, 8.0], [60.0, 8.0, 8.0]])  # The last is sure beyond float32's one.
        with tf.GradientTape() as tape:
            predictions = logits if from_logits else tf.nn.softmax(logits)
            losses = per_example_loss(fr.ops.LogOddsLoss(from_logits), np.array([0, 0]), predictions)
        gradients = tape.gradient(losses, logits)
        self.assertAllClose(losses, [np.log(2) - 4.0, np.log(2) - 52.0], rtol=1e-4)
        self.assertAllClose(gradients, [[-1.0, 0.5, 0.5]] * 2, atol=1e-4)

    def test_a_name_gives_the_same_object_each_time(self):
        model = keras.Sequential([keras.layers.Input([4]), keras.layers.Dense(3)])
        for name in ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"):
            model.compile(loss=name)
            self.assertIs(compiled_loss(model), compiled_loss(model))
        self.assertIs(resolve_loss(name), resolve_loss(name))
        model.compile(loss=keras.losses.serialize(keras.losses.SparseCategoricalCrossentropy(from_logits=True)))
        self.assertTrue(compiled_loss(model).get_config()["from_logits"])

    def test_an_attack_on_a_named_loss_is_the_same_from_its_configuration(self):
        attack = fr.attacks.FlowPGD(0.3, loss="sparse_categorical_crossentropy")
        again = type(attack).from_config(attack.get_config())
        self.assertEqual(again, attack)
        self.assertEqual(again.settings(), attack.settings())

    def test_a_name_is_looked_up_where_it_is_used(self):
        if compat.KERAS_3:
            self.skipTest("Keras 3 knows no names of losses but its own.")

        class First(keras.losses.MeanSquaredError):
            pass

        class Second(keras.losses.MeanSquaredError):
            pass

        for loss in (First, Second):
            with keras.saving.custom_object_scope({"loss_of_ours": loss}):
                self.assertIsInstance(resolve_loss("loss_of_ours"), loss)

    def test_by_name_it_takes_what_the_compiled_loss_takes(self):
        model = keras.Sequential([keras.layers.Input([4]), keras.layers.Dense(3)])
        for compiled, from_logits in (
            (keras.losses.SparseCategoricalCrossentropy(from_logits=True), True),
            (keras.losses.CategoricalCrossentropy(), False),
            ("sparse_categorical_crossentropy", False),
        ):
            model.compile(loss=compiled)
            self.assertIs(resolve_loss("log_odds", compiled_loss(model)).from_logits, from_logits)
        model.compile(loss="mse")
        with self.assertRaisesRegex(ValueError, r"Expected a cross-entropy.*Received mean_squared_error.*LogOddsLoss"):
            resolve_loss("log_odds", compiled_loss(model))

    def test_a_function_of_ones_own_does_not_say_what_it_takes(self):
        def my_crossentropy(labels, predictions):
            return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels[:, 0], tf.int32), predictions)

        class MyCrossentropy(keras.losses.Loss):
            call = staticmethod(my_crossentropy)

        for loss in (my_crossentropy, MyCrossentropy(name="crossentropy")):
            self.assertIsNone(takes_logits(loss))
            with self.assertRaisesRegex(ValueError, "Expected a cross-entropy.*LogOddsLoss"):
                resolve_loss("log_odds", loss)
        for name in ("sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"):
            self.assertIs(takes_logits(keras.losses.get(name)), False)

    def test_one_column_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "at least two classes"):
            fr.ops.LogOddsLoss(True)(np.array([0, 1]), tf.constant(LOGITS[:, :1]))

    def test_serialization(self):
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(fr.ops.LogOddsLoss(True)))
        self.assertIs(copy.from_logits, True)


if __name__ == "__main__":
    tf.test.main()

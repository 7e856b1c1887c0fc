"""Tests that what does something else is described otherwise, and what does the same is described alike."""

import functools
import json
import pathlib
from concurrent import futures

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.descriptions import described, described_loss
from tests import testing


def shifted(by):
    return lambda labels, predictions: tf.reduce_sum(predictions, axis=1) + by


def scaled(labels, predictions, scale=1.0):
    return scale * predictions[:, 0]


class OwnLoss(keras.losses.Loss):
    def __init__(self, rates):
        super().__init__(name="own")
        self.rates = rates

    def call(self, y_true, y_pred):
        return tf.reduce_sum(self.rates * y_pred, axis=1)


class Shift(fr.perturbations.Perturbation):
    def __init__(self, by):
        self.by = by


class Own(fr.attacks.FlowPGD):
    def __init__(self, epsilon, shifts, **options):
        super().__init__(epsilon, **options)
        self.shifts = shifts


def focal(rates):
    return keras.losses.CategoricalFocalCrossentropy(alpha=rates)


PAIRS = {
    "loss_options_in_a_list": lambda of: described_loss(focal([of, 0.3])),
    "loss_options_in_an_array": lambda of: described_loss(focal(np.array([of, 0.3]))),
    "loss_of_ones_own": lambda of: described_loss(OwnLoss(tf.constant([of, 1.0]))),
    "function_with_a_value_around_it": lambda of: described_loss(shifted(of)),
    "part_of_a_function": lambda of: described_loss(functools.partial(scaled, scale=of)),
    "traced_function": lambda of: described_loss(tf.function(shifted(of))),
    "lambda": lambda of: described_loss(eval(f"lambda labels, predictions: {of} * predictions[:, 0]")),
    "option_in_a_set": lambda of: Own(0.1, {of, 2.0}).settings(),
    "option_of_bytes": lambda of: Own(0.1, str(of).encode()).settings(),
    "option_of_a_path": lambda of: Own(0.1, pathlib.Path(str(of))).settings(),
    "option_in_a_list": lambda of: Own(0.1, [of, 2.0]).settings(),
    "option_in_an_array": lambda of: Own(0.1, np.array([of, 2.0])).settings(),
    "option_in_a_large_array": lambda of: Own(0.1, np.full([20, 30], of)).settings(),
    "option_of_a_numpy_number": lambda of: Own(0.1, np.float32(of)).settings(),
    "option_in_a_dictionary": lambda of: Own(0.1, {"by": (of, 2)}).settings(),
    "loss_of_an_attack": lambda of: fr.attacks.FlowPGD(0.1, loss=focal([of, 0.3])).settings(),
    "perturbation_of_ones_own": lambda of: fr.attacks.PGD(Shift(np.array([of])), 0.1).settings(),
}


class DescribedTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*PAIRS)
    def test_what_does_something_else_is_told_apart(self, name):
        one, same, other = (json.dumps(PAIRS[name](of)) for of in (0.5, 0.5, 0.25))
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)

    def test_values_by_hand(self):
        self.assertEqual(
            described({"a": (1, np.float32(0.5)), "b": [None, "c", tf.constant([True])]}),
            {"a": [1, 0.5], "b": [None, "c", [True]]},
        )
        self.assertEqual(described([np.inf, np.array([np.nan]), tf.nn.relu, dict]), ["inf", ["nan"], "relu", "dict"])

    def test_losses_by_hand(self):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="mine")
        self.assertEqual(described_loss(loss)["loss"], "mine")
        self.assertEqual(described_loss(loss)["loss_options"]["from_logits"], True)
        self.assertEqual(
            described_loss(keras.losses.mean_squared_error)["loss_options"], {"name": "mean_squared_error"}
        )

    def test_losses_do_not_depend_on_the_thread(self):
        thread = futures.ThreadPoolExecutor(1)
        here, there = (
            describe(testing.cross_entropy())
            for describe in (described_loss, lambda loss: thread.submit(described_loss, loss).result())
        )
        self.assertEqual(here, there)
        self.assertTrue(here["loss_options"]["from_logits"])


class ResumeTest(tf.test.TestCase):
    def test_another_loss_of_the_same_name_is_another_evaluation(self):
        path = f"{self.get_temp_dir()}/partial.jsonl"
        images, labels = testing.data(8)
        data, model = (images, np.eye(testing.CLASSES)[labels]), testing.network(keras.layers.ReLU())
        for rates, is_same in (([0.1] * 4, True), ([0.1] * 4, True), ([0.2] * 4, False)):
            model.compile("sgd", focal(rates))
            attack = fr.attacks.FlowFGSM(0.4)
            if is_same:
                fr.evaluate_robustness(model, data, attack, [0.4], resume_from=path, check=False)
            else:
                with self.assertRaisesRegex(ValueError, "of the same model, attacks, settings and version"):
                    fr.evaluate_robustness(model, data, attack, [0.4], resume_from=path, check=False)


if __name__ == "__main__":
    tf.test.main()

"""Tests of how the example scripts train."""

import os

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.commands import datasets, recipes, training

SCHEDULE = training.Schedule(epochs=4, warmup=1.0)


class StopBefore(keras.callbacks.Callback):
    """Ends the training as a kill would: without a word to the other callbacks."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            raise KeyboardInterrupt


class ResumeTest(tf.test.TestCase):
    def train(self, *callbacks):
        """Trains with all that is random: weights, order, augmentation, random starts, attack."""
        keras.utils.set_random_seed(3)
        dataset = datasets.load("digits", batch_size=16, augment=True, train_size=40, seed=3)
        recipe = recipes.Recipe(
            "flow_gradient+deformation_training", weight=5.0, random_start=0.25, epsilon=0.4, steps=1, schedule=SCHEDULE
        )
        model = training.build_model(dataset, recipe, architecture="small_cnn", width=0.1, batch_size=16, seed=3)
        history = training.fit(model, dataset, SCHEDULE, callbacks, verbose=0).history
        return model, history

    def test_a_resumed_training_ends_as_an_undisturbed_one(self):
        undisturbed, history = self.train()
        backup = os.path.join(self.get_temp_dir(), "backup")
        with self.assertRaises(KeyboardInterrupt):
            self.train(keras.callbacks.BackupAndRestore(backup), StopBefore(2))
        resumed, rest = self.train(keras.callbacks.BackupAndRestore(backup))
        self.assertLen(rest["loss"], 2)
        for name in history:
            self.assertAllClose(rest[name], history[name][2:], rtol=1e-5)
        for ours, theirs in zip(resumed.get_weights(), undisturbed.get_weights()):
            self.assertAllClose(ours, theirs, rtol=0, atol=1e-5)


class BuildModelTest(tf.test.TestCase):
    def test_the_recipe_and_the_seed_decide(self):
        dataset = datasets.load("digits", batch_size=500)
        schedule = training.Schedule(epochs=3, learning_rate=0.2, momentum=0.5, clip_norm=2.0)
        recipe = recipes.Recipe(
            "flow_gradient", weight=5.0, penalty_every=2, label_smoothing=0.1, activation="gelu", schedule=schedule
        )
        options = {"architecture": "lenet5", "width": 0.5, "batch_size": 500}
        first, second, other = (training.build_model(dataset, recipe, **options, seed=seed) for seed in (3, 3, 4))
        self.assertEqual(first.base_model.name, "lenet5")
        self.assertEqual((first.penalty_every, first.regularizer.weight, first.seed), (2, 5.0, 3))
        self.assertEqual(first.loss.label_smoothing, 0.1)
        optimizer = first.optimizer.get_config()
        self.assertEqual((optimizer["momentum"], optimizer["global_clipnorm"]), (0.5, 2.0))
        # Half of a cosine over 3 epochs of 12 batches.
        rate = keras.optimizers.schedules.deserialize(optimizer["learning_rate"])
        self.assertAllClose([rate(step) for step in (0, 18, 36)], [0.2, 0.1, 0.0], atol=1e-6)
        kernels = [model.base_model.get_weights()[0] for model in (first, second, other)]
        self.assertAllEqual(kernels[0], kernels[1])
        self.assertNotAllClose(kernels[0], kernels[2])


class WarmupTest(tf.test.TestCase):
    def test_penalties_on_bounds_have_the_whole_weight_from_the_start(self):
        dataset, schedule = datasets.load("digits", batch_size=40, train_size=40), training.Schedule(2, warmup=1.0)
        recipe = recipes.Recipe("certified_training", weight=1.0, epsilon=0.4, warmup_weight=0.5, schedule=schedule)
        model = training.build_model(dataset, recipe, architecture="strided_cnn", width=0.1, batch_size=40, seed=3)
        history = training.fit(model, dataset, schedule, verbose=0).history
        weighted = np.subtract(history["loss"], history["task_loss"])
        self.assertAllClose(weighted, history["interval_penalty"], rtol=1e-3)


class CrossEntropyTest(tf.test.TestCase):
    def test_with_and_without_label_smoothing(self):
        self.assertIsInstance(training.cross_entropy(), keras.losses.SparseCategoricalCrossentropy)
        self.assertIsInstance(training.cross_entropy(0.1), fr.ops.SmoothedSparseCategoricalCrossentropy)


if __name__ == "__main__":
    tf.test.main()

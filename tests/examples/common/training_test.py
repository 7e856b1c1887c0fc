"""Tests of how the example scripts train."""

import os

import keras
import numpy as np
import tensorflow as tf
from common import architectures, datasets, recipes, training

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
        network = architectures.build("small_cnn", dataset.image_shape, dataset.num_classes, 0.1)
        recipe = recipes.Recipe(
            "flow_gradient+deformation_training", weight=5.0, random_start=0.25, epsilon=0.4, steps=1, schedule=SCHEDULE
        )
        model = recipe.build(network, seed=3)
        training.compile_model(model, dataset, recipe, batch_size=16)
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


class SmoothedLossTest(tf.test.TestCase):
    def test_it_is_kerass_with_one_hot_labels(self):
        logits = tf.constant([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]])
        dense = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)
        loss = training.cross_entropy(0.3)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        for labels in (np.array([0, 1]), np.array([[0], [1]])):
            for ours in (loss, copy):
                self.assertAllClose(ours(labels, logits), dense(np.eye(3)[[0, 1]], logits))
        plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        classes = np.array([0, 1])
        self.assertAllClose(training.cross_entropy()(classes, logits), plain(classes, logits))


if __name__ == "__main__":
    tf.test.main()

"""Tests of what counts as a model's state."""

import keras
import tensorflow as tf

from keras_flowreg import compat, states
from tests import testing


class StatesTest(tf.test.TestCase):
    def test_frozen_weights_are_none(self):
        model = testing.network(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5))
        expected = compat.tf_variables([model.layers[1].moving_mean, model.layers[1].moving_variance])
        for trainable in (True, False):
            model.trainable = trainable
            self.assertEqual([*map(id, states.statistics(model).variables)], [*map(id, expected)])


if __name__ == "__main__":
    tf.test.main()

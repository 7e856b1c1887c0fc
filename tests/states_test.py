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

    def test_a_model_with_a_loss_of_its_own_is_built(self):
        class WithLoss(testing.Subclassed):
            def call(self, images):
                predictions = super().call(images)
                self.add_loss(tf.reduce_mean(tf.square(predictions)))
                return predictions

        model = WithLoss()
        states.build(model, tf.zeros([3, *testing.SHAPE]))
        self.assertLen(model.weights, 2)
        history = testing.fit(testing.regularized(WithLoss(), weight=0.0))
        self.assertGreater(
            history["loss"][0], testing.fit(testing.regularized(testing.Subclassed(), weight=0.0))["loss"][0]
        )


if __name__ == "__main__":
    tf.test.main()

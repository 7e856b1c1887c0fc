"""Tests of what tells one classifier from another."""

import os

import keras
import tensorflow as tf

from keras_flowreg.evaluation.identity import identify
from tests import testing


def network(skipped, name="hidden"):
    """Three dense layers, the first or second of which skips to the end."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(testing.SHAPE)
    values = [keras.layers.Flatten()(inputs)]
    for number in range(3):
        values.append(keras.layers.Dense(6, activation="relu", name=f"{name}_{number}")(values[-1]))
    total = keras.layers.Add()([values[3], values[1 + skipped]])
    return keras.Model(inputs, keras.layers.Dense(testing.CLASSES)(keras.layers.BatchNormalization()(total)))


class IdentityTest(tf.test.TestCase):
    def test_what_goes_where_tells_networks_apart(self):
        first, second = (identify(network(skipped), testing.SHAPE) for skipped in (0, 1))
        self.assertEqual(first["weights"], second["weights"])
        self.assertNotEqual(first["computation"], second["computation"])

    def test_names_and_saving_do_not(self):
        path = os.path.join(self.get_temp_dir(), "model.keras")
        model = network(0)
        model.save(path)
        expected = identify(model, testing.SHAPE)
        for other in (network(0, name="layer"), keras.models.load_model(path)):
            self.assertEqual(identify(other, testing.SHAPE), expected)


if __name__ == "__main__":
    tf.test.main()

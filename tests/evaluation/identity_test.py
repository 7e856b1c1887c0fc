"""Tests of what tells one classifier from another."""

import os

import keras
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.evaluation.identity import identify
from tests import testing


def network(skipped=0, name="hidden", turned=False, slope=0.1):
    """Three dense layers, the first or second of which skips to the end."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = layers.Input(testing.SHAPE)
    values = [layers.Flatten()(inputs)]
    for number in range(3):
        dense = layers.Dense(6, name=f"{name}_{number}")
        values.append(layers.LeakyReLU(slope)(dense(values[-1])))
    ends = [values[3], values[1 + skipped]]
    total = layers.BatchNormalization()(layers.Concatenate()(ends[::-1] if turned else ends))
    total = layers.Dropout(0.1)(total)
    return keras.Model(inputs, layers.Dense(testing.CLASSES)(total))


class Bounded(keras.layers.Layer):
    """Has a branch and a loop of TensorFlow."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def call(self, inputs):
        halved = tf.while_loop(lambda n, _: n < 3, lambda n, x: (n + 1, x / self.times), (0, inputs))[1]
        return tf.cond(tf.reduce_mean(inputs) > 0, lambda: halved, lambda: -halved)


class IdentityTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters({"skipped": 1}, {"turned": True}, {"slope": 0.2})
    def test_what_is_computed_tells_networks_apart(self, **other):
        first, second = identify(network(), testing.SHAPE), identify(network(**other), testing.SHAPE)
        self.assertEqual(first["weights"], second["weights"])
        self.assertNotEqual(first["computation"], second["computation"])

    def test_weights_tell_them_apart_too(self):
        first, second = network(), network()
        second.set_weights([weights + 1 for weights in second.get_weights()])
        expected, found = (identify(model, testing.SHAPE) for model in (first, second))
        self.assertNotEqual(found["weights"], expected["weights"])
        self.assertEqual(found["computation"], expected["computation"])

    def test_which_weight_is_used_where_counts(self):
        class Chain(keras.Model):
            def __init__(self, turned):
                super().__init__()
                keras.utils.set_random_seed(0)
                self.parts = [keras.layers.Dense(2), keras.layers.Dense(2)]
                self.end = keras.layers.GlobalAveragePooling2D()
                for part in self.parts:
                    part.build((None, 2))
                self.turned = turned

            def call(self, inputs):
                for part in self.parts[::-1] if self.turned else self.parts:
                    inputs = part(inputs)
                return self.end(inputs)

        first, second = (identify(Chain(turned), testing.SHAPE) for turned in (False, True))
        self.assertEqual(first["weights"], second["weights"])
        self.assertNotEqual(first["computation"], second["computation"])

    def test_what_branches_and_loops_do_counts(self):
        def computation(times):
            model = keras.Sequential([keras.Input(testing.SHAPE), keras.layers.Flatten(), Bounded(times)])
            return identify(model, testing.SHAPE)["computation"]

        self.assertEqual(computation(2.0), computation(2.0))
        self.assertNotEqual(computation(2.0), computation(3.0))

    def test_names_and_saving_do_not_count(self):
        folder, model = self.get_temp_dir(), network()
        path, exported = os.path.join(folder, "model.keras"), os.path.join(folder, "export")
        model.save(path)
        fr.export(model, exported)
        expected = identify(model, testing.SHAPE)
        self.assertEqual(identify(fr.FlowRegularizedModel(model), testing.SHAPE), expected)
        for other in (network(name="layer"), keras.models.load_model(path), fr.load_classifier(exported)):
            self.assertEqual(identify(other, testing.SHAPE), expected)

    def test_a_model_on_replicas_is_the_same_one(self):
        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            model = network()
        self.assertEqual(identify(model, testing.SHAPE), identify(network(), testing.SHAPE))


if __name__ == "__main__":
    tf.test.main()

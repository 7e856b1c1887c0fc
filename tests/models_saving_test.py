"""Tests that a saved FlowRegularizedModel comes back whole."""

import itertools
import os
import zipfile

import keras
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from tests import testing


@keras.saving.register_keras_serializable(package="keras_flowreg_tests")
class SavedSubclassed(testing.Subclassed):
    """A subclassed base model that Keras can save."""


def fitted(base):
    model = fr.FlowRegularizedModel(
        base, fr.FlowGradientRegularizer(2.0, random_start=0.2, lattice="central", gradient_norm="l2"), seed=5
    )
    model.compile(keras.optimizers.Adam(1e-3), testing.cross_entropy(), metrics=["accuracy"])
    testing.fit(model)
    return model


FORMATS = ("model.keras",) if compat.KERAS_3 else ("model.keras", "model")


class SavingTest(tf.test.TestCase, parameterized.TestCase):
    def test_weights_are_those_of_a_model_with_another_regularizer_or_none(self):
        models = [fr.FlowRegularizedModel(testing.network()), testing.regularized()]
        models.append(fr.FlowRegularizedModel(testing.network(), fr.InputGradientRegularizer(1.0)))
        for model in models:
            model.compile("sgd", testing.cross_entropy(), metrics=["accuracy"])
            testing.fit(model)
        for model, other in itertools.permutations(models, 2):
            path = os.path.join(self.get_temp_dir(), "a.weights.h5")
            model.save_weights(path, overwrite=True)
            other.load_weights(path)
            self.assertAllEqual(
                other.predict(testing.data()[0], verbose=0), model.predict(testing.data()[0], verbose=0)
            )

    @parameterized.product(
        base=[
            lambda: testing.network(keras.layers.BatchNormalization()),
            lambda: testing.network(keras.layers.BatchNormalization(), keras.layers.MaxPooling2D()),
            SavedSubclassed,
        ],
        name=FORMATS,
    )
    def test_round_trip(self, base, name):
        images, labels = testing.data()
        model = fitted(base())
        path = os.path.join(self.get_temp_dir(), name)
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertIsInstance(loaded, fr.FlowRegularizedModel)
        self.assertEqual(loaded.regularizer.get_config(), model.regularizer.get_config())
        self.assertEqual(loaded.seed, 5)
        self.assertAllEqual(loaded.predict(images, verbose=0), model.predict(images, verbose=0))
        self.assertAllClose(
            loaded.evaluate(images, labels, verbose=0), model.evaluate(images, labels, verbose=0), rtol=1e-5
        )
        if name == "model":
            return  # Keras 2 does not restore an optimizer's state from a SavedModel, of any model.
        # Training goes on as if it had not been saved: optimizer, step count, random starts and all.
        self.assertAllClose(testing.fit(loaded)["loss"], testing.fit(model)["loss"], rtol=1e-4)
        for ours, theirs in zip(loaded.base_model.get_weights(), model.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=1e-5)

    @parameterized.parameters("model.h5", "model.hdf5")
    def test_a_file_that_could_not_be_loaded_is_not_written(self, name):
        path = os.path.join(self.get_temp_dir(), name)
        with self.assertRaisesRegex(ValueError, "Expected a path that ends in .keras. Received .*model.h"):
            testing.regularized().save(path)
        self.assertFalse(os.path.exists(path))

    def test_attack_comes_back_and_one_network_is_in_the_file(self):
        base = testing.network()
        attack = fr.attacks.FlowPGD(epsilon=0.3, steps=2, start="zero")
        model = fr.FlowRegularizedModel(base, attack=attack)
        model.compile("sgd", testing.cross_entropy())
        testing.fit(model)
        path = os.path.join(self.get_temp_dir(), "attack.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertEqual(loaded.attack, attack)
        self.assertLen(loaded.weights, len(model.weights))
        with zipfile.ZipFile(path) as archive:
            self.assertEqual(archive.read("config.json").count(b'"Conv2D"'), 1)
        images, labels = testing.data()
        self.assertAllClose(loaded.attack(images, labels, model=loaded), attack(images, labels, model=model), atol=1e-6)

    def test_base_model_is_the_users_own(self):
        base = testing.network()
        model = fitted(base)
        self.assertIs(model.base_model, base)
        path = os.path.join(self.get_temp_dir(), "base.keras")
        base.save(path)
        images, _ = testing.data()
        loaded = keras.models.load_model(path)
        self.assertNotIsInstance(loaded, fr.FlowRegularizedModel)
        self.assertAllClose(loaded.predict(images, verbose=0), model.predict(images, verbose=0))

    def test_clone_by_configuration(self):
        model = fitted(testing.network())
        copy = fr.FlowRegularizedModel.from_config(model.get_config())
        copy.set_weights(model.get_weights())
        images, _ = testing.data()
        self.assertAllClose(copy.predict(images, verbose=0), model.predict(images, verbose=0))


if __name__ == "__main__":
    tf.test.main()

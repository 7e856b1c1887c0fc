"""Tests that a saved classifier is attacked as the one that was saved."""

import json
import os
import subprocess
import sys
import textwrap

import h5py
import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.evaluation.journal import digest
from keras_flowreg.ops.losses import compiled_loss
from tests import testing


class OnlyASignature(tf.Module):
    """A SavedModel for serving: it cannot be called."""

    def __init__(self, model, outputs=1):
        super().__init__()
        self.model = model
        self.kernel = tf.Variable(tf.ones([]))

        @tf.function(input_signature=[tf.TensorSpec([None, *testing.SHAPE], name="pictures")])
        def serve(pictures):
            return {f"output_{number}": self.kernel * model(pictures) for number in range(outputs)}

        self.serve = serve

    def save(self, path):
        tf.saved_model.save(self, path, signatures={"serving_default": self.serve})


class LoadClassifierTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = testing.data(8)
        self.path = os.path.join(self.get_temp_dir(), "classifier")
        self.model = testing.network()

    def expect_the_same(self, loaded):
        self.assertAllClose(loaded(self.images, training=False), self.model(self.images), atol=1e-6)
        attack = fr.attacks.FlowFGSM(0.3)
        expected = attack(self.images, self.labels, model=self.model, loss=testing.cross_entropy())
        self.assertAllClose(attack(self.images, self.labels, model=loaded), expected, atol=1e-5)

    def test_an_export_of_probabilities(self):
        for probabilities in (False, True):
            fr.export(self.model, self.path, probabilities=probabilities, overwrite=True)
            loaded = fr.load_classifier(self.path)
            self.assertEqual(loaded.loss.get_config()["from_logits"], not probabilities)
            expected = testing.cross_entropy()(self.labels, self.model(self.images))
            self.assertAllClose(loaded.loss(self.labels, loaded(self.images)), expected, rtol=1e-4)

    def test_probabilities_before_a_linear_layer(self):
        path = self.path + ".keras"
        ends = [keras.layers.Softmax(), keras.layers.Activation("linear", dtype="float32")]
        keras.Sequential([keras.Input(testing.SHAPE), self.model, *ends]).save(path)
        self.assertFalse(fr.load_classifier(path).loss.get_config()["from_logits"])

    def test_probabilities_of_a_model_that_trains_on_attacks(self):
        path = os.path.join(self.get_temp_dir(), "attacked.keras")
        model = fr.FlowRegularizedModel(
            keras.Sequential([testing.network(), keras.layers.Softmax()]), attack=fr.attacks.FlowFGSM(0.2)
        )
        model.predict(testing.data()[0], verbose=0)
        model.save(path)
        self.assertFalse(fr.load_classifier(path).loss.get_config()["from_logits"])

    def test_a_class_of_ones_own_must_be_registered(self):
        class Twice(keras.layers.Layer):
            def call(self, inputs):
                return 2 * inputs

        Twice.__module__ = "__main__"  # as in the script that saved it
        path = os.path.join(self.get_temp_dir(), "own.keras")
        keras.Sequential([keras.Input(testing.SHAPE), Twice(), keras.layers.Flatten(), keras.layers.Dense(2)]).save(
            path
        )
        with self.assertRaisesRegex(ValueError, "Twice.* A class of your own must be imported, and registered"):
            fr.load_classifier(path)

    def test_a_registered_loss(self):
        @keras.saving.register_keras_serializable(package="saved_classifier_test")
        def margin(labels, predictions):
            return fr.ops.MarginLoss().call(labels, predictions)

        self.model.compile("sgd", margin)
        path = self.path + ".keras"
        self.model.save(path)
        self.assertIs(compiled_loss(fr.load_classifier(path)), margin)

    def test_weights_alone_are_no_classifier(self):
        path = os.path.join(self.get_temp_dir(), "a.weights.h5")
        testing.network().save_weights(path)
        with self.assertRaisesRegex(ValueError, "a whole classifier. Received its weights alone"):
            fr.load_classifier(path)

    def test_an_export(self):
        fr.export(self.model, self.path)
        loaded = fr.load_classifier(self.path)
        self.assertEqual(loaded.image_shape, testing.SHAPE)
        images, labels = testing.data(2)
        with self.assertRaisesRegex(ValueError, "Expected `images` of the shape .*, which the model takes"):
            fr.attacks.FlowFGSM(0.1)(images[:, :-1], labels, model=loaded)
        self.expect_the_same(loaded)
        self.assertEqual(digest(loaded.get_weights()), digest(self.model.get_weights()))

    def test_a_keras_file(self):
        model = fr.FlowRegularizedModel(self.model)
        model.compile("sgd", fr.ops.MarginLoss())
        model.save(self.path + ".keras")
        loaded = fr.load_classifier(self.path + ".keras")
        self.assertIsInstance(loaded, fr.FlowRegularizedModel)
        self.assertIsInstance(loaded.loss, fr.ops.MarginLoss)
        self.assertAllClose(loaded(self.images), self.model(self.images), atol=1e-6)
        self.model.save(self.path + ".keras")
        self.expect_the_same(fr.load_classifier(self.path + ".keras"))

    def test_a_loss_that_is_a_function_of_keras(self):
        self.model.compile("sgd", keras.losses.categorical_crossentropy)
        self.model.save(self.path + ".keras")
        loaded = fr.load_classifier(self.path + ".keras")
        self.assertEqual(fr.ops.losses.name_of(compiled_loss(loaded)), "categorical_crossentropy")

    def test_an_hdf5_file_with_an_optimizer_of_another_keras(self):
        path = os.path.join(self.get_temp_dir(), "classifier.h5")
        model = testing.network()
        model.compile("sgd", "categorical_crossentropy")
        model.save(path)
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["training_config"])
            config["optimizer_config"]["config"]["unknown"] = 1
            file.attrs["training_config"] = json.dumps(config)
        loaded = fr.load_classifier(path)
        self.assertEqual(fr.ops.losses.name_of(compiled_loss(loaded)), "categorical_crossentropy")
        images, _ = testing.data(4)
        self.assertAllClose(loaded(images), model(images), atol=1e-6)

    def test_a_serving_signature(self):
        module = OnlyASignature(self.model)
        module.save(self.path)
        loaded = fr.load_classifier(self.path)
        self.expect_the_same(loaded)
        # Every variable that it reads, so that other weights are known as others.
        before = digest(loaded.get_weights())
        module.kernel.assign(2)
        module.save(self.path)
        self.assertNotEqual(digest(fr.load_classifier(self.path).get_weights()), before)

    def test_a_module_that_lists_no_variables(self):
        class Callable(tf.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            @tf.function(input_signature=[tf.TensorSpec([None, *testing.SHAPE])])
            def __call__(self, images):
                return self.model(images)

        tf.saved_model.save(Callable(self.model), self.path)
        loaded = fr.load_classifier(self.path)
        self.expect_the_same(loaded)
        self.assertCountEqual(map(np.shape, loaded.get_weights()), map(np.shape, self.model.get_weights()))

    def test_images_of_two_sizes(self):
        class Mean(tf.Module):
            @tf.function
            def __call__(self, images):
                return tf.reduce_mean(images, [1, 2])

        module = Mean()
        functions = [module.__call__.get_concrete_function(tf.TensorSpec([None, size, 10, 2])) for size in (8, 6)]
        tf.saved_model.save(module, self.path, signatures={"serving_default": functions[0]})
        loaded = fr.load_classifier(self.path)
        self.assertEqual(loaded.image_shape, (None, 10, 2))
        self.assertAllEqual(loaded(tf.ones([1, 6, 10, 2])), [[1, 1]])

    def test_of_integers(self):
        class OfIntegers(tf.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            @tf.function(input_signature=[tf.TensorSpec([None, *testing.SHAPE], tf.uint8)])
            def __call__(self, images):
                return self.model(tf.cast(images, tf.float32) / 255)

        module = OfIntegers(self.model)
        tf.saved_model.save(module, self.path, signatures={"serving_default": module.__call__.get_concrete_function()})
        loaded, integers = fr.load_classifier(self.path), np.round(255 * self.images)
        self.assertEqual(digest(loaded.get_weights()), digest(self.model.get_weights()))
        expected = self.model(integers / 255)
        for images in (integers, integers + 0.4, integers.astype("uint8")):
            self.assertAllClose(loaded(images), expected, atol=1e-5)
        labels = np.argmax(expected, axis=1)
        options = {"value_range": (0, 255), "loss": "margin"}
        with self.assertRaisesRegex(ValueError, "can be differentiated .*cast to integers.*Attack it by FlowSquare"):
            fr.attacks.FlowPGD(0.4, **options)(integers, labels, model=loaded)
        result = fr.attacks.RandomFlow(2.0, draws=5, **options).run(integers, labels, model=loaded)
        self.assertAllEqual(result.success, np.argmax(loaded(result.images), axis=1) != labels)

    def test_a_report(self):
        fr.export(self.model, self.path)
        attack = fr.attacks.FlowPGD(0.3, steps=3)
        reports = [
            fr.evaluate_robustness(
                model, (self.images, self.labels), attack, [0.3], loss=testing.cross_entropy(), check=False, verbose=0
            )
            for model in (self.model, fr.load_classifier(self.path))
        ]
        self.assertEqual(reports[0].settings, reports[1].settings)
        self.assertAllEqual(*[report.robust[("FlowPGD", 0.3)] for report in reports])

    def test_only_an_address_needs_tensorflow_hub(self):
        fr.export(self.model, self.path)
        program = f"""
            import sys
            sys.modules["tensorflow_hub"] = None  # As if it were not installed.
            import keras_flowreg as fr
            fr.load_classifier({self.path!r})
            try:
                fr.load_classifier("https://tfhub.dev/google/classifier/1")
            except ImportError as error:
                assert "Expected tensorflow_hub to be installed, to load https://tfhub.dev" in str(error), error
            else:
                raise AssertionError("no error")
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)

    def test_bad_input(self):
        with self.assertRaisesRegex(FileNotFoundError, "Expected a saved classifier. Received .*which does not exist"):
            fr.load_classifier(self.path)
        tf.saved_model.save(tf.Module(), self.path)
        with self.assertRaisesRegex(ValueError, "Expected .*classifier to be callable, or to have.*Received neither"):
            fr.load_classifier(self.path)
        OnlyASignature(self.model, outputs=2).save(self.path)
        with self.assertRaisesRegex(ValueError, r"one input and one output. Received .*\['output_0', 'output_1'\]"):
            fr.load_classifier(self.path)


if __name__ == "__main__":
    tf.test.main()

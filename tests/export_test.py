"""Tests that an exported classifier is what TensorFlow Hub, Serving and Lite take."""

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from tests import testing


def classifier():
    """With batch statistics, a random layer and a weight regularizer."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input(testing.SHAPE),
            keras.layers.Conv2D(6, 3, kernel_regularizer=keras.regularizers.L2(0.1), activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(testing.CLASSES),
        ],
        name="classifier",
    )


@functools.cache
def trained():
    """One model for all tests, which leave it as it is."""
    model = fr.FlowRegularizedModel(classifier(), fr.FlowGradientRegularizer(2.0, random_start=0.1))
    model.compile("sgd", testing.cross_entropy(), metrics=["accuracy"])
    testing.fit(model)
    return model


class ExportTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = testing.data(10)
        self.path = os.path.join(self.get_temp_dir(), "exported")

    def exported(self, model=None, **options):
        model = model or trained()
        fr.export(model, self.path, **options)
        return model

    @parameterized.parameters(hub.load, tf.saved_model.load)
    def test_reusable_saved_model(self, load):
        model = self.exported()
        loaded = load(self.path)
        for size in (1, 7):
            self.assertAllClose(
                loaded(self.images[:size]), model.base_model(self.images[:size], training=False), atol=1e-6
            )
        served = loaded.signatures["serving_default"](images=tf.constant(self.images))
        self.assertAllClose(served["logits"], loaded(self.images))
        self.assertLen(loaded.trainable_variables, 6)
        for ours, theirs in zip(loaded.trainable_variables, model.base_model.trainable_variables):
            self.assertAllEqual(ours, theirs)
        self.assertAllClose(
            [loss() for loss in loaded.regularization_losses], [0.1 * np.sum(model.base_model.get_weights()[0] ** 2)]
        )

    def test_augmentation_is_random_in_training_mode_alone(self):
        model = keras.Sequential(
            [keras.layers.Input(testing.SHAPE), keras.layers.RandomTranslation(0.4, 0.4), testing.network()]
        )
        fr.export(model, self.path)
        loaded = hub.load(self.path)
        self.assertAllClose(loaded(self.images), model(self.images, training=False), atol=1e-6)
        self.assertNotAllClose(loaded(self.images, training=True), loaded(self.images, training=True))

    def test_training_mode_drops_and_counts(self):
        self.exported()
        loaded = hub.load(self.path)
        before = [variable.numpy() for variable in loaded.variables]
        self.assertNotAllClose(loaded(self.images, training=True), loaded(self.images, training=True))
        moved = [not np.array_equal(old, new) for old, new in zip(before, loaded.variables)]
        self.assertGreaterEqual(sum(moved), 2)  # the moving mean and variance
        for variable in loaded.trainable_variables:
            self.assertTrue(any(np.array_equal(variable, old) for old in before))

    def test_it_needs_none_of_our_code(self):
        self.exported()
        program = f"""
            import sys
            import tensorflow as tf
            loaded = tf.saved_model.load({self.path!r})
            assert loaded(tf.zeros([2, 8, 10, 2])).shape == (2, 4)
            assert "keras_flowreg" not in sys.modules
            graph = loaded.signatures["serving_default"].graph.as_graph_def()
            names = {{node.op for node in graph.node}} | {{n.op for f in graph.library.function for n in f.node_def}}
            # Neither a warp nor a gradient of our own.
            assert not names & {{"GatherV2", "GatherNd", "IdentityN"}}, names
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, cwd=self.get_temp_dir())

    def test_preprocessing_and_probabilities(self):
        model = self.exported(uint8_images=True, probabilities=True, value_range=(-1, 1))
        integers = (255 * self.images).astype("uint8")
        expected = tf.nn.softmax(model.base_model(integers / np.float32(127.5) - 1))
        loaded = hub.load(self.path)
        self.assertAllClose(loaded(integers), expected, atol=1e-5)
        served = loaded.signatures["serving_default"](images=tf.constant(integers))
        self.assertAllClose(served["probabilities"], expected, atol=1e-5)

    def test_hub_layer_is_fine_tuned(self):
        if compat.KERAS_3:
            self.skipTest("hub.KerasLayer is a Keras 2 layer.")
        self.exported()
        layer = hub.KerasLayer(self.path, trainable=True)
        model = keras.Sequential([keras.layers.Input(testing.SHAPE), layer])
        model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
        before = [weight.numpy() for weight in layer.trainable_weights]
        self.assertLen(before, 6)
        self.assertLen(model.losses, 1)
        history = testing.fit(model, epochs=6)
        self.assertLess(history["loss"][-1], history["loss"][0])
        for weight, old in zip(layer.trainable_weights, before):
            self.assertNotAllClose(weight, old, atol=1e-6)

    def test_keras_3_layer(self):
        if not compat.KERAS_3:
            self.skipTest("TFSMLayer is Keras 3's.")
        model = self.exported()
        layer = keras.layers.TFSMLayer(self.path, call_endpoint="serving_default")
        self.assertAllClose(layer(self.images)["logits"], model.base_model(self.images, training=False), atol=1e-6)

    def test_servings_signature(self):
        self.exported()
        command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "show", "--dir", self.path]
        command += ["--tag_set", "serve", "--signature_def", "serving_default"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self.assertIn("inputs['images'] tensor_info:", shown)
        self.assertIn("shape: (-1, 8, 10, 2)", shown)
        self.assertIn("outputs['logits'] tensor_info:", shown)
        self.assertIn("shape: (-1, 4)", shown)
        self.assertIn("Method name is: tensorflow/serving/predict", shown)

    def test_lite(self):
        model = self.exported()
        content = tf.lite.TFLiteConverter.from_saved_model(self.path).convert()
        run = tf.lite.Interpreter(model_content=content).get_signature_runner("serving_default")
        for size in (1, 5):
            self.assertAllClose(
                run(images=self.images[:size])["logits"],
                model.base_model(self.images[:size], training=False),
                atol=1e-4,
            )

    def test_card(self):
        model = trained()
        report = fr.evaluate_robustness(
            model, (self.images, self.labels), fr.attacks.FlowFGSM(0.1), [0.1, 0.3], check=False, verbose=0
        )
        card = fr.export(model, self.path, report=report, recipe={"epochs": 16})
        with open(os.path.join(self.path, "model_card.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file), card)
        self.assertEqual(card["name"], "classifier")
        self.assertEqual(card["parameters"], sum(w.size for w in model.base_model.get_weights()) - 12)
        self.assertEqual(card["training"]["regularizer"]["weight"], 2.0)
        self.assertEqual(card["training"]["epochs"], 16)
        self.assertEqual(card["robustness"]["clean_accuracy"]["value"], report.clean_accuracy.value)
        self.assertEqual(
            [entry["accuracy"]["value"] for entry in card["robustness"]["robust_accuracy"]],
            [report.robust_accuracy("FlowFGSM", epsilon).value for epsilon in (0.1, 0.3)],
        )
        with open(os.path.join(self.path, "model_card.md"), encoding="utf-8") as file:
            text = file.read()
        self.assertIn(f"| FlowFGSM | 0.3 | {report.robust_accuracy('FlowFGSM', 0.3).value:.3f} |", text)
        self.assertIn("weight=2", text)

    def test_a_binary_model_is_told_what_to_do(self):
        inputs = keras.Input(testing.SHAPE)
        binary = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(keras.layers.Flatten()(inputs)))
        for probabilities in (False, True):
            with self.assertRaisesRegex(ValueError, "at least two classes.*two_class_classifier"):
                fr.export(binary, self.path, probabilities=probabilities)

    def test_the_values_are_those_of_the_report(self):
        model = keras.Sequential([keras.Input(testing.SHAPE), keras.layers.Rescaling(1 / 255), testing.network()])
        model.compile("sgd", testing.cross_entropy())
        bytes_ = (255 * self.images).astype("uint8")
        attack = fr.attacks.RandomFlow(0.2, value_range=(0, 255))
        report = fr.evaluate_robustness(
            model, (bytes_, self.labels), attack, [0.2], value_range=(0, 255), check=False, verbose=0
        )
        with self.assertRaisesRegex(ValueError, r"that of the report, \(0.0, 255.0\). Received \(0.0, 1.0\)"):
            fr.export(model, self.path, report=report, value_range=(0, 1))
        for uint8_images in (False, True):
            card = fr.export(model, self.path, report=report, uint8_images=uint8_images, overwrite=True)
            self.assertEqual(card["inputs"]["values"], [0, 255])
            self.assertAllClose(
                tf.saved_model.load(self.path)(tf.constant(bytes_, card["inputs"]["dtype"])), model(bytes_)
            )
            # What was taken before is taken after.
            loaded = fr.load_classifier(self.path)
            self.assertAllClose(loaded.predict(bytes_, verbose=0), model(bytes_), atol=1e-4)
            again = fr.evaluate_robustness(
                loaded, (bytes_, self.labels), attack, [0.2], value_range=(0, 255), check=False, verbose=0
            )
            self.assertAllEqual(again.correct, report.correct)

    def test_what_is_there_is_not_replaced_unasked(self):
        self.exported()
        with self.assertRaisesRegex(FileExistsError, "Expected a new `path`, or overwrite=True. Received .*exported"):
            self.exported()
        other = self.exported(overwrite=True, probabilities=True)
        self.assertAllClose(hub.load(self.path)(self.images), tf.nn.softmax(other.base_model(self.images)), atol=1e-5)
        self.assertEqual(os.listdir(self.get_temp_dir()), ["exported"])

    def test_a_kill_leaves_the_old_one(self):
        model = self.exported()
        saved = os.path.join(self.get_temp_dir(), "model.keras")
        model.save(saved)
        program = f"""
            import os, signal
            import keras, tensorflow as tf
            import keras_flowreg as fr
            save = tf.saved_model.save

            def save_and_die(*args, **options):
                save(*args, **options)
                os.kill(os.getpid(), signal.SIGKILL)

            tf.saved_model.save = save_and_die
            fr.export(keras.models.load_model({saved!r}), {self.path!r}, probabilities=True, overwrite=True)
        """
        process = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
        self.assertEqual(process.returncode, -signal.SIGKILL)
        self.assertAllClose(hub.load(self.path)(self.images), model.base_model(self.images, training=False), atol=1e-6)

    def test_subclassed(self):
        model = testing.Subclassed()
        with self.assertRaisesRegex(ValueError, r"Expected `image_shape` to be \(height, width, channels\).*None"):
            self.exported(model)
        self.exported(model, image_shape=testing.SHAPE)
        self.assertAllClose(hub.load(self.path)(self.images), model(self.images), atol=1e-6)

    def test_bad_input(self):
        with self.assertRaisesRegex(TypeError, "Expected `model` to be a keras.Model"):
            fr.export("model.keras", self.path)
        model, other = trained(), testing.regularized()
        report = fr.evaluate_robustness(
            other, (self.images, self.labels), fr.attacks.RandomFlow(0.1, draws=1), [0.1], check=False, verbose=0
        )
        with self.assertRaisesRegex(ValueError, "Expected a report of this model"):
            fr.export(model, self.path, report=report)
        with self.assertRaisesRegex(TypeError, "Expected `recipe` to be made of numbers"):
            fr.export(model, self.path, recipe={"optimizer": model.optimizer})
        features = keras.Sequential([keras.layers.Input(testing.SHAPE), keras.layers.Conv2D(2, 3)])
        with self.assertRaisesRegex(ValueError, r"Expected predictions of the shape \[batch, classes\]"):
            fr.export(features, self.path)
        self.assertFalse(os.path.exists(self.path))


if __name__ == "__main__":
    tf.test.main()

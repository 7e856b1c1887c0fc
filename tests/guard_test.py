"""Tests of what fit does with a batch that cannot be trained on."""

from tests import virtual_devices  # (first: it divides the CPU before TensorFlow starts)

import keras  # isort: skip
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from keras_flowreg.ops.requirements import Requirement
from tests import testing

BATCH = 8


def build(attack=None, base=None, random_start=0.2, **options):
    regularizer = fr.FlowGradientRegularizer(1.0, random_start=random_start)
    model = fr.FlowRegularizedModel(base or testing.network(keras.layers.BatchNormalization()), regularizer, attack)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), testing.cross_entropy(), **options)
    return model


def data(change=None):
    """Three batches. The last is spoiled by a change of its images, labels and weights."""
    images, labels = testing.data(3 * BATCH)
    weights = np.ones([3 * BATCH], "float32")
    if change is not None:
        change(*(array[2 * BATCH :] for array in (images, labels, weights)))
    return images, labels, weights


def fit(model, images, labels, weights):
    model.fit(images, labels, sample_weight=weights, batch_size=BATCH, shuffle=False, verbose=0)


def nan_image(images, labels, weights):
    images[3, 1, 2, 0] = np.nan


def infinite_image(images, labels, weights):
    images[0, 0, 0, 0] = -np.inf


def image_out_of_range(images, labels, weights):
    images *= 255


def label_out_of_range(images, labels, weights):
    labels[7] = testing.CLASSES


def negative_label(images, labels, weights):
    labels[0] = -1


def nan_weight(images, labels, weights):
    weights[5] = np.nan


def huge_image(images, labels, weights):
    images[:] = 3e38  # What a convolution adds up is too large for a number.


FAULTS = (
    (nan_image, "Expected finite images. Received NaN or infinity in a batch of images, after [0-9]* good ones"),
    (infinite_image, "Expected finite images"),
    (label_out_of_range, "Expected labels from 0 to 3, whole numbers.* Received other values in a batch"),
    (negative_label, "Expected labels from 0 to 3"),
    (nan_weight, "Expected finite sample weights"),
    (huge_image, "Expected finite (loss|gradients)"),
)


class Batches(keras.utils.Sequence):
    """Batches whose sizes Keras 2 does not tell, and whose labels are columns."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        images, labels = testing.data(BATCH)
        return images, labels[:, np.newaxis]


class LabelsTest(tf.test.TestCase):
    def test_columns_of_a_sequence(self):
        model, other = build(random_start=0.0), build(random_start=0.0)
        model.fit(Batches(), epochs=1, verbose=0)
        images, labels = testing.data(BATCH)
        other.fit(
            np.concatenate(2 * [images]), np.concatenate(2 * [labels]), batch_size=BATCH, shuffle=False, verbose=0
        )
        self.assertAllClose(model.get_weights(), other.get_weights(), atol=1e-5)

    def test_beside_an_ignored_label_others_are_penalized_and_attacked_as_without_it(self):
        images, labels = testing.data(8)
        ignored = np.where(np.arange(8) == 0, -1, labels)

        def trained(images, labels, **options):
            model = fr.FlowRegularizedModel(testing.network(), **options)
            model.compile(keras.optimizers.SGD(0.0), testing.cross_entropy(ignore_class=-1))
            return model.fit(images, labels, batch_size=8, shuffle=False, verbose=0).history

        for name, options in (
            ("gradient_penalty", {"regularizer": fr.FlowGradientRegularizer(1.0, loss="log_odds")}),
            ("loss", {"attack": fr.attacks.FlowFGSM(0.4)}),
        ):
            with self.subTest(name):
                expected = trained(images[1:], labels[1:], **options)[name]
                self.assertAllClose(trained(images, ignored, **options)[name], expected, rtol=1e-4)

    def test_a_model_that_gives_a_pair(self):
        class Pairs(testing.Subclassed):
            def call(self, images):
                return super().call(images), images

        for weight in (0.0, 1.0):
            with self.assertRaisesRegex(ValueError, "Expected a model with one output"):
                testing.fit(testing.regularized(Pairs(), weight=weight))
        with self.assertRaisesRegex(ValueError, "Expected a model with one output"):
            model = fr.FlowRegularizedModel(Pairs())
            model.compile("sgd", testing.cross_entropy())
            testing.fit(model)

    def test_a_class_that_the_loss_ignores(self):
        model = build(random_start=0.0)
        model.compile("sgd", testing.cross_entropy(ignore_class=-1))
        images, labels = testing.data(BATCH)
        labels[0] = -1
        model.fit(images, labels, verbose=0)
        labels[0] = -2
        with self.assertRaisesRegex(ValueError, "Expected labels from 0 to 3"):
            model.fit(images, labels, verbose=0)


class GuardTest(tf.test.TestCase, parameterized.TestCase):
    def assertStopsWithTheLastGoodWeights(self, model, good, change, message):
        images, labels, weights = data()
        fit(good, images[: 2 * BATCH], labels[: 2 * BATCH], weights[: 2 * BATCH])
        with self.assertRaisesRegex(ValueError, message):
            fit(model, *data(change))
        for ours, theirs in zip(model.base_model.get_weights(), good.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=1e-5)

    @parameterized.product(jit_compile=[False, True])
    def test_one_batch_is_wrong(self, jit_compile):
        good, model = (build(jit_compile=jit_compile) for _ in range(2))
        for change, message in FAULTS:  # Training can go on after each.
            self.assertStopsWithTheLastGoodWeights(model, good, change, message)

    @parameterized.product(jit_compile=[False, True])
    def test_images_out_of_the_range_of_an_attack(self, jit_compile):
        attack = fr.attacks.FlowFGSM(epsilon=0.3)
        good, model = (build(attack, jit_compile=jit_compile) for _ in range(2))
        message = r"Expected finite images with values from 0.0 to 1.0"
        self.assertStopsWithTheLastGoodWeights(model, good, image_out_of_range, message)

    @parameterized.parameters({"run_eagerly": True}, {"steps_per_execution": 3})
    def test_other_ways_to_run(self, **options):
        good, model = build(run_eagerly=options.get("run_eagerly", False)), build(**options)
        self.assertStopsWithTheLastGoodWeights(model, good, nan_image, "Expected finite images")

    def test_two_replicas(self):
        with virtual_devices.two_replicas().scope():
            good, model = build(random_start=0.0), build(random_start=0.0)
        self.assertStopsWithTheLastGoodWeights(model, good, nan_image, "Expected finite images")

    def test_mixed_precision(self):
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            good, model = (build() for _ in range(2))
        finally:
            keras.mixed_precision.set_global_policy("float32")
        self.assertIn("LossScale", type(model.optimizer).__name__)
        self.assertStopsWithTheLastGoodWeights(model, good, nan_image, "Expected finite images")

    def test_another_precision_of_everything(self):
        keras.backend.set_floatx("float64")
        try:
            for options in ({}, {"attack": fr.attacks.FlowFGSM(0.1)}):
                model = fr.FlowRegularizedModel(testing.network(), fr.FlowGradientRegularizer(1.0), **options)
                model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
                self.assertAllEqual(np.isfinite(testing.fit(model)["loss"]), [True])
        finally:
            keras.backend.set_floatx("float32")

    def test_a_subclassed_model(self):
        good, model = (build(base=testing.Subclassed()) for _ in range(2))
        for each in (good, model):
            compat.build(each.base_model, testing.SHAPE)
            each.base_model.set_weights([np.ones_like(value) / 9 for value in each.base_model.get_weights()])
        self.assertStopsWithTheLastGoodWeights(model, good, nan_image, "Expected finite images")
        self.assertStopsWithTheLastGoodWeights(model, good, label_out_of_range, "Expected labels from 0 to 3")

    def test_a_training_that_diverges(self):
        model = build()
        model.compile(keras.optimizers.SGD(1e30), testing.cross_entropy())
        with self.assertRaisesRegex(ValueError, "Expected finite"):
            testing.fit(model, epochs=3)

    @parameterized.product(jit_compile=[False, True])
    def test_evaluation(self, jit_compile):
        model = build(jit_compile=jit_compile)
        for change, message in FAULTS[:5]:
            images, labels, weights = data(change)
            with self.assertRaisesRegex(ValueError, message.split(",")[0]):
                model.evaluate(images, labels, sample_weight=weights, batch_size=BATCH, verbose=0)

    def test_a_resumed_training_ends_as_one_without_the_batch(self):
        images, labels, weights = data()
        folder = self.get_temp_dir()

        def resume(model, data):
            backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
            model.fit(*data[:2], batch_size=BATCH, shuffle=False, verbose=0, epochs=2, callbacks=[backup])

        undisturbed = build()
        testing.fit(undisturbed, batch_size=BATCH, size=3 * BATCH, epochs=2)
        first = build()
        backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
        first.fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[backup])
        with self.assertRaisesRegex(ValueError, "Expected finite images"):
            resume(build(), data(nan_image))
        resumed = build()
        resume(resumed, (images, labels))
        for ours, theirs in zip(resumed.base_model.get_weights(), undisturbed.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=1e-6)

    def test_of_many_requirements_none_is_lost(self):
        met = [Requirement(f"Expected {number}.", "Received none", tf.constant(number < 19)) for number in range(20)]
        self.assertTrue(build().are_met(met[:19]))
        self.assertFalse(build().are_met(met))


if __name__ == "__main__":
    tf.test.main()

"""Tests of the example scripts' data sets."""

import dataclasses
import hashlib
import pathlib
import tempfile
from unittest import mock

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import parameterized

from keras_flowreg.commands import datasets

DIGITS = pathlib.Path(datasets.__file__).parent / "digits"
TRAIN_EXAMPLES = 40
CLASS_NAMES = tuple("abcdefghij")
VERSIONS = {"cifar10": "3.0.2", "svhn_cropped": "3.1.0"}


def make_images(count):
    """Channel 0 is the example's number, channel 1 its column plus 100, channel 2 white."""
    images = np.full([count, 32, 32, 3], 255, np.uint8)
    images[..., 0] = np.arange(count)[:, None, None]
    images[..., 1] = 100 + np.arange(32)
    return images


def store(name, data_dir):
    """Prepares a tiny data set as TFDS would, under the name of a real one."""
    features = {
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(names=CLASS_NAMES),
        "id": tfds.features.Text(),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=VERSIONS[name],
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            split: [
                (number, {"image": image, "label": number % 10, "id": str(number)})
                for number, image in enumerate(make_images(count))
            ]
            for split, count in (("train", TRAIN_EXAMPLES), ("test", 7))
        },
        data_dir=data_dir,
        disable_shuffling=True,
    )


def read(dataset):
    """Returns the images and labels of one epoch."""
    batches = list(dataset.as_numpy_iterator())
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def read_numbers(dataset):
    """Returns the numbers of one epoch's examples, from channel 0's centre, which no crop reaches."""
    images, labels = read(dataset)
    numbers = np.rint(255 * images[:, 16, 16, 0]).astype(int)
    np.testing.assert_array_equal(labels, numbers % 10)
    return numbers.tolist()


class DigitsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(("train", 600), ("test", 100))
    def test_arrays_are_balanced_images(self, split, per_class):
        with np.load(DIGITS / "digits.npz") as arrays:
            images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        self.assertEqual((images.dtype, images.shape), (np.uint8, (10 * per_class, 28, 28, 1)))
        self.assertEqual((images.min(), images.max(), labels.dtype), (0, 255, np.int64))
        self.assertAllEqual(np.bincount(labels), [per_class] * 10)
        for prefix in range(5 * per_class, 10 * per_class, per_class):
            self.assertAllClose(np.bincount(labels[:prefix]), [prefix / 10] * 10, rtol=0.25)

    def test_readme_gives_the_digests(self):
        readme = (DIGITS / "README.md").read_text()
        with np.load(DIGITS / "digits.npz") as arrays:
            self.assertCountEqual(arrays, ["x_train", "y_train", "x_test", "y_test"])
            for array in arrays.values():
                self.assertIn(hashlib.sha256(array.tobytes()).hexdigest(), readme)

    def test_test_images_are_not_in_train(self):
        with np.load(DIGITS / "digits.npz") as arrays:
            train, test = ({image.tobytes() for image in arrays[f"x_{split}"]} for split in ("train", "test"))
        self.assertEmpty(train & test)

    def test_load(self):
        dataset = datasets.load("digits", batch_size=64, validation_size=500, train_size=130)
        self.assertEqual((dataset.name, dataset.image_shape, dataset.num_classes), ("digits", (28, 28, 1), 10))
        self.assertEqual(dataset.class_names, tuple("0123456789"))
        self.assertEqual(dataset.train_examples, 130)
        self.assertEqual([len(labels) for _, labels in dataset.train], [64, 64, 2])
        self.assertEqual([int(dataset.train.cardinality()), int(dataset.validation.cardinality())], [3, 8])
        for batches in (dataset.train, dataset.validation, dataset.test):
            images, labels = batches.element_spec
            self.assertEqual((images.dtype, images.shape.as_list()), (tf.float32, [None, 28, 28, 1]))
            self.assertEqual((labels.dtype, labels.shape.as_list()), (tf.int64, [None]))

    def test_test_split_is_whole_and_in_order(self):
        images, labels = read(datasets.load("digits").test)
        with np.load(DIGITS / "digits.npz") as arrays:
            self.assertAllClose(images, arrays["x_test"] / 255)
            self.assertAllEqual(labels, arrays["y_test"])

    def test_without_validation(self):
        dataset = datasets.load("digits")
        self.assertIsNone(dataset.validation)
        self.assertEqual(dataset.train_examples, 6000)

    def test_grey_images_are_not_augmented_unless_asked(self):
        def total_brightness(augment):
            return read(datasets.load("digits", augment=augment).train)[0].sum(dtype=np.float64)

        with np.load(DIGITS / "digits.npz") as arrays:
            brightness = arrays["x_train"].sum() / 255
        self.assertAllClose(total_brightness(None), brightness)
        self.assertAllClose(total_brightness(False), brightness)
        self.assertLess(total_brightness(True), 0.999 * brightness)

    def test_is_frozen(self):
        with self.assertRaises(dataclasses.FrozenInstanceError):
            datasets.load("digits").name = "letters"

    @parameterized.parameters(
        (dict(name="letters"), "Expected `name` to be a folder or one of digits, .* Received: name='letters'"),
        (dict(batch_size=0), "Expected `batch_size` to be at least 1. Received: batch_size=0"),
        (
            dict(validation_size=-1),
            "Expected `validation_size` to be at least 0. Received: validation_size=-1",
        ),
        (dict(validation_size=6000), "less than the 6000 training examples. Received: validation_size=6000"),
        (dict(train_size=0), "Expected `train_size` to be at least 1. Received: train_size=0"),
        (dict(train_size=-5), "Expected `train_size` to be at least 1. Received: train_size=-5"),
        (dict(train_size=6001), "Expected `train_size` to be at most 6000, .* Received: train_size=6001"),
        (dict(train_size=5001, validation_size=1000), "at most 5000, .* less the 1000 for validation"),
    )
    def test_errors(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            datasets.load(**{"name": "digits", **arguments})


class TfdsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.data_dir = directory.name
        for name in VERSIONS:
            store(name, cls.data_dir)

    def load(self, name="cifar10", **arguments):
        return datasets.load(name, data_dir=self.data_dir, **arguments)

    def test_load(self):
        dataset = self.load(batch_size=16)
        self.assertEqual((dataset.image_shape, dataset.num_classes), ((32, 32, 3), 10))
        self.assertEqual(dataset.class_names, CLASS_NAMES)
        self.assertEqual((dataset.train_examples, int(dataset.train.cardinality())), (40, 3))
        self.assertEqual(read_numbers(dataset.test), list(range(7)))

    def test_validation_is_held_out_of_train(self):
        dataset = self.load(validation_size=15)
        train, validation = read_numbers(dataset.train), read_numbers(dataset.validation)
        self.assertLen(validation, 15)
        self.assertCountEqual(train + validation, range(TRAIN_EXAMPLES))
        self.assertNotEqual(sorted(validation), list(range(25, 40)))

    def test_split_does_not_depend_on_seed_or_train_size(self):
        first = self.load(validation_size=15, train_size=10, seed=0)
        second = self.load(validation_size=15, train_size=20, seed=1)
        self.assertEqual(read_numbers(first.validation), read_numbers(second.validation))
        self.assertContainsSubset(read_numbers(first.train), read_numbers(second.train))

    @parameterized.parameters(False, True)
    def test_epochs_differ_and_repeat_with_the_seed(self, augment):
        def read_epochs(seed):
            train = self.load(augment=augment, seed=seed, batch_size=16).train
            return [read(train) for _ in range(2)]

        (images, labels), (next_images, next_labels) = read_epochs(seed=3)
        self.assertNotAllEqual(labels, next_labels)
        self.assertAllEqual(np.sort(labels), np.sort(next_labels))
        self.assertAllEqual(read_epochs(seed=3)[0][0], images)
        self.assertAllEqual(read_epochs(seed=3)[1][0], next_images)
        self.assertNotAllEqual(read_epochs(seed=4)[0][1], labels)

    def test_augmentation_differs_between_epochs(self):
        def read_shifts(train):
            images, _ = read(train)
            order = np.argsort(images[:, 16, 16, 0])
            return images[order, 16, 16, 1]

        train = self.load().train
        self.assertNotAllEqual(read_shifts(train), read_shifts(train))

    @parameterized.parameters(("cifar10", {-1, 1}), ("svhn_cropped", {1}))
    def test_colour_images_are_cropped_and_only_cifar_is_flipped(self, name, expected_directions):
        images, _ = read(self.load(name).train)
        columns = np.rint(255 * images[:, 16, :, 1]).astype(int) - 100
        directions = columns[:, 17] - columns[:, 16]
        self.assertEqual(set(directions.tolist()), expected_directions)
        shifts = np.where(directions > 0, columns[:, 16] - 16, columns[:, 15] - 16)
        self.assertEqual((shifts.min(), shifts.max()), (-4, 4))
        zero_columns = np.sum(images[:, 16, :, 2] == 0, axis=-1)
        self.assertAllEqual(zero_columns, np.abs(shifts))

    def test_augmentation_keeps_shape_and_range(self):
        images, _ = read(self.load().train)
        self.assertEqual((images.shape, images.dtype), ((TRAIN_EXAMPLES, 32, 32, 3), np.float32))
        self.assertEqual((images.min(), images.max()), (0, 1))

    @parameterized.parameters("cifar10", "svhn_cropped")
    def test_augmentation_can_be_switched_off(self, name):
        images, _ = read(self.load(name, augment=False).train)
        self.assertAllEqual(images[..., 2], np.ones([TRAIN_EXAMPLES, 32, 32]))

    def test_without_network(self):
        missing = self.get_temp_dir()
        no_network = requests.ConnectionError("no route to host")
        with (
            mock.patch.object(requests, "head", side_effect=no_network),
            mock.patch.object(tfds.core.DatasetBuilder, "download_and_prepare") as download,
        ):
            message = f"'mnist' prepared in {missing}.*ConnectionError.*'digits'"
            with self.assertRaisesRegex(RuntimeError, message) as raised:
                datasets.load("mnist", data_dir=missing)
        download.assert_not_called()
        self.assertIs(raised.exception.__cause__, no_network)

    def test_failed_download(self):
        refused = tfds.download.DownloadError("403")
        with (
            mock.patch.object(requests, "head"),
            mock.patch.object(tfds.core.DatasetBuilder, "download_and_prepare", side_effect=refused),
        ):
            with self.assertRaisesRegex(RuntimeError, "'cifar100' prepared in .*DownloadError") as raised:
                datasets.load("cifar100", data_dir=self.get_temp_dir())
        self.assertIs(raised.exception.__cause__, refused)

    def test_other_server_answers(self):
        unreachable = requests.ConnectionError("no route to host")
        with (
            mock.patch.object(requests, "head", side_effect=[unreachable, None]) as head,
            mock.patch.object(
                tfds.core.DatasetBuilder, "download_and_prepare", side_effect=OSError("stop here")
            ) as download,
            self.assertRaises(RuntimeError),
        ):
            datasets.load("svhn_cropped", data_dir=self.get_temp_dir())
        self.assertEqual(head.call_count, 2)
        download.assert_called_once()


if __name__ == "__main__":
    tf.test.main()

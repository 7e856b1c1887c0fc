"""Tests that every form of data that `fit` takes gives the same batches."""

import itertools

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg import compat
from keras_flowreg.batches import Batches
from tests import testing

IMAGES, LABELS = testing.data(10)
WEIGHTS = np.ones(10)
PAIRS = [(IMAGES[start : start + 4], LABELS[start : start + 4]) for start in (0, 4, 8)]


class ByNumber:
    """Says where it ends by its length alone."""

    def __len__(self):
        return 3

    def __getitem__(self, number):
        return PAIRS[number % 3]


class Numbered(keras.utils.Sequence):
    def __len__(self):
        return 3

    def __getitem__(self, number):
        return (*PAIRS[number], WEIGHTS[:4])


class Iterated:
    def __iter__(self):
        return iter(PAIRS)


def flowing():
    """`ImageDataGenerator.flow`, which goes on for ever when it is gone through."""
    if compat.KERAS_3:
        from keras.src.legacy.preprocessing.image import ImageDataGenerator
    else:
        from keras.preprocessing.image import ImageDataGenerator
    return ImageDataGenerator().flow(IMAGES, LABELS, batch_size=4, shuffle=False)


def dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(4)


FORMS = {
    "arrays": lambda: (IMAGES, LABELS),
    "list_of_arrays": lambda: [IMAGES, LABELS],
    "with_weights": lambda: (IMAGES, LABELS, WEIGHTS),
    "tensors": lambda: (tf.constant(IMAGES), tf.constant(LABELS)),
    "dataset": lambda: dataset(IMAGES, LABELS),
    "dataset_with_weights": lambda: dataset(IMAGES, LABELS, WEIGHTS),
    "filtered": lambda: dataset(IMAGES, LABELS).filter(lambda images, labels: True),
    "empty_batch": lambda: [PAIRS[0], (IMAGES[:0], LABELS[:0]), *PAIRS[1:]],
    "batches": lambda: PAIRS,
    "two_batches": lambda: [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])],
    "two_batches_as_lists": lambda: [[IMAGES[:4], LABELS[:4]], [IMAGES[4:], LABELS[4:]]],
    "by_number": ByNumber,
    "sequence": Numbered,
    "iterated": Iterated,
    "flowing": flowing,
}


def joined(batches):
    return [np.concatenate(parts) for parts in zip(*batches)]


class BatchesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*FORMS)
    def test_twice_the_same(self, form):
        batches = Batches(FORMS[form](), "data", batch_size=4)
        for _ in range(2):
            self.assertAllClose(batches.first()[0], IMAGES[:4])
            images, labels = joined(batches)
            self.assertAllClose(images, IMAGES)
            self.assertAllEqual(labels, LABELS)

    @parameterized.parameters(*FORMS)
    def test_the_first_examples(self, form):
        batches = Batches(FORMS[form](), "data", batch_size=4, examples=7)
        images, labels = joined(batches)
        self.assertAllClose(images, IMAGES[:7])
        self.assertAllEqual(labels, LABELS[:7])
        self.assertIn(batches.size(), (2, None))

    def test_a_generator_loses_no_batch(self):
        batches = Batches((pair for pair in PAIRS), "data", examples=10, read_once=True)
        self.assertAllClose(batches.first()[0], IMAGES[:4])
        self.assertAllClose(batches.first()[0], IMAGES[:4])
        self.assertAllClose(joined(batches)[0], IMAGES)

    def test_no_more_is_read_than_asked_for(self):
        read = []

        def generate():
            for number in itertools.count():
                read.append(number)
                yield PAIRS[0]

        self.assertLen(joined(Batches(generate(), "data", examples=6, read_once=True))[1], 6)
        self.assertEqual(read, [0, 1])
        self.assertLen(list(Batches(dataset(IMAGES, LABELS).repeat(), "data", batches=5)), 5)

    def test_batches_of_large_images_are_smaller(self):
        for size, expected in ((8, 128), (96, 128), (192, 32), (2048, 1)):
            images = np.broadcast_to(np.zeros([1, 1, 1, 3], "float32"), [130, size, size, 3])
            self.assertLen(Batches((images, np.zeros(130)), "data").first()[1], expected)


if __name__ == "__main__":
    tf.test.main()

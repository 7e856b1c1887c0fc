"""Tests of data sets that are pictures in folders."""

import os
import shutil

import numpy as np
import tensorflow as tf

from keras_flowreg.commands import datasets, folders

COUNTS = {"train": 6, "test": 3}


def write(path, image):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    tf.io.write_file(path, tf.io.encode_png(tf.constant(image, tf.uint8)))


class FoldersTest(tf.test.TestCase):
    def setUp(self):
        """Images of one value: 100 times the class's number, plus the picture's."""
        super().setUp()
        self.folder = os.path.join(self.get_temp_dir(), "pictures")
        shutil.rmtree(self.folder, ignore_errors=True)
        for split, count in COUNTS.items():
            for label, name in enumerate(("ant", "bee")):
                for number in range(count):
                    path = os.path.join(self.folder, split, name, f"{number}.png")
                    write(path, np.full([5, 7, 1], 100 * label + number))

    def test_images_labels_and_names(self):
        train, test, names = folders.read(self.folder)
        self.assertEqual(names, ("ant", "bee"))
        for (images, labels), count in zip((train, test), COUNTS.values()):
            self.assertEqual((images.shape, images.dtype, labels.dtype), ((2 * count, 5, 7, 1), "float32", "int64"))
            values = np.round(255 * images[:, 0, 0, 0]).astype(int)
            self.assertCountEqual(values, [100 * label + number for label in (0, 1) for number in range(count)])
            self.assertAllEqual(values // 100, labels)
            self.assertLen(set(labels[:count]), 2)  # The first ones are not all of one class.

    def test_as_a_data_set(self):
        with open(os.path.join(self.folder, "train", "ant", ".hidden"), "w"):
            pass
        dataset = datasets.load(self.folder, batch_size=4, validation_size=2)
        self.assertEqual((dataset.image_shape, dataset.num_classes, dataset.train_examples), ((5, 7, 1), 2, 10))
        self.assertAllEqual(next(iter(dataset.test))[1], folders.read(self.folder)[1][1][:4])

    def test_hidden_folders_are_no_classes(self):
        write(os.path.join(self.folder, "train", ".checkpoints", "1.png"), np.zeros([5, 7, 1]))
        os.makedirs(os.path.join(self.folder, "test", ".empty"))
        self.assertEqual(folders.read(self.folder)[2], ("ant", "bee"))

    def test_one_in_colour_makes_all_so(self):
        write(os.path.join(self.folder, "test", "bee", "9.png"), np.full([5, 7, 3], [0, 255, 0]))
        (train, _), (test, _), _ = folders.read(self.folder)
        self.assertEqual((train.shape[-1], test.shape[-1]), (3, 3))
        self.assertAllEqual(train[..., 0], train[..., 2])
        self.assertIn([0, 1, 0], test[:, 0, 0].tolist())

    def assert_refused(self, message):
        with self.assertRaisesRegex(ValueError, message):
            folders.read(self.folder)

    def test_several_sizes(self):
        write(os.path.join(self.folder, "train", "bee", "9.png"), np.zeros([7, 5, 1]))
        self.assert_refused("pictures of one size.* Received 5 x 7 pixels in .*png, and 7 x 5 in .*9.png")

    def test_what_is_no_picture(self):
        with open(os.path.join(self.folder, "train", "ant", "notes.txt"), "w") as file:
            file.write("notes")
        self.assert_refused("Expected .*notes.txt to be a picture")

    def test_wrong_folders(self):
        os.makedirs(os.path.join(self.folder, "train", "cat"))
        self.assert_refused("Expected pictures in .*cat. Received none")
        write(os.path.join(self.folder, "train", "cat", "1.png"), np.zeros([5, 7, 1]))
        self.assert_refused(r"the same classes.* Received \['ant', 'bee', 'cat'\] and \['ant', 'bee'\]")
        shutil.rmtree(os.path.join(self.folder, "test"))
        self.assert_refused("Expected the folder .*test, with a folder of pictures for each class")


if __name__ == "__main__":
    tf.test.main()

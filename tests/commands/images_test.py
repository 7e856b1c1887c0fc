"""Tests that any still picture becomes an image that the model takes."""

import os

import numpy as np
import PIL.Image
import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg.commands import images

RED = (255, 0, 0)
GREY_OF_RED = 0.299


class ImagesTest(tf.test.TestCase, parameterized.TestCase):
    def read(self, picture, channels, name="a.png"):
        path = os.path.join(self.get_temp_dir(), name)
        picture.save(path)
        return images.read(path, (4, 6, channels))

    @parameterized.parameters(
        ("L", 51, "a.png", 0.2, (0.2, 0.2, 0.2)),
        ("1", 1, "a.png", 1.0, (1.0, 1.0, 1.0)),
        ("LA", (51, 255), "a.png", 0.2, (0.2, 0.2, 0.2)),
        ("RGB", RED, "a.png", GREY_OF_RED, (1.0, 0.0, 0.0)),
        ("RGBA", (*RED, 255), "a.png", GREY_OF_RED, (1.0, 0.0, 0.0)),
        ("RGBA", (*RED, 0), "a.png", 1.0, (1.0, 1.0, 1.0)),  # transparent, on white
        ("CMYK", (0, 255, 255, 0), "a.tiff", GREY_OF_RED, (1.0, 0.0, 0.0)),
        ("I;16", 13107, "a.png", 0.2, (0.2, 0.2, 0.2)),
        ("RGB", RED, "a.bmp", GREY_OF_RED, (1.0, 0.0, 0.0)),
    )
    def test_modes(self, mode, color, name, grey, rgb):
        picture = PIL.Image.new(mode, (6, 4), color)
        self.assertAllClose(self.read(picture, 1, name), np.full([4, 6, 1], grey), atol=2e-5)
        self.assertAllClose(self.read(picture, 3, name), np.broadcast_to(rgb, [4, 6, 3]), atol=2e-5)

    def test_a_palette(self):
        picture = PIL.Image.new("RGB", (6, 4), RED).convert("P")
        self.assertAllClose(self.read(picture, 1, "a.gif"), np.full([4, 6, 1], GREY_OF_RED), atol=2e-5)

    def test_jpeg(self):
        for mode, color in (("CMYK", (0, 255, 255, 0)), ("RGB", RED)):
            read = self.read(PIL.Image.new(mode, (6, 4), color), 1, "a.jpg")
            self.assertAllClose(read, np.full([4, 6, 1], GREY_OF_RED), atol=0.02)

    def test_what_a_model_does_not_know(self):
        path = os.path.join(self.get_temp_dir(), "a.png")
        PIL.Image.new("RGB", (7, 3), RED).save(path)
        self.assertEqual(images.read(path, (None, None, None)).shape, (3, 7, 3))
        for mode, color in (("L", 51), ("LA", (51, 128)), ("I;16", 13107)):
            PIL.Image.new(mode, (7, 3), color).save(path)
            self.assertEqual(images.read(path, (None, None, None)).shape, (3, 7, 1))


if __name__ == "__main__":
    tf.test.main()

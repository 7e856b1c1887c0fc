"""Tests of the conversions between the paper's units and pixels."""

import tensorflow as tf

from keras_flowreg.ops import normalized_from_pixels, pixels_from_normalized, weight_from_paper


class UnitsTest(tf.test.TestCase):
    def test_the_papers_epsilon(self):
        self.assertAlmostEqual(pixels_from_normalized(0.01, 32), 0.155)
        self.assertAlmostEqual(normalized_from_pixels(0.155, 32), 0.01)

    def test_normalized_coordinates_span_the_image(self):
        # From the first pixel's centre at -1 to the last's at 1 are size - 1 pixels.
        self.assertEqual(pixels_from_normalized(2.0, 28), 27.0)

    def test_the_papers_weight(self):
        self.assertAlmostEqual(weight_from_paper(300, batch_size=128, image_size=32), 300 * 15.5**2 / 128**2)
        self.assertAlmostEqual(weight_from_paper(300, batch_size=128, image_size=32), 4.40, places=2)

    def test_bad_input(self):
        for arguments in ((300, 0, 32), (300, 12.5, 32), (300, 128, 1), (-1, 128, 32), (float("nan"), 128, 32)):
            with self.assertRaisesRegex(ValueError, "Expected .* Received"):
                weight_from_paper(*arguments)


if __name__ == "__main__":
    tf.test.main()

"""Tests of RotationTranslation against every candidate tried by hand."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from tests import testing


class RotationTranslationTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, _ = testing.data(10)
        self.model = testing.network()
        self.model.compile("sgd", testing.cross_entropy())
        self.labels = np.argmax(self.model(self.images), axis=1)

    @parameterized.parameters("edge", "black")
    def test_finds_the_worst_of_the_grid(self, border):
        attack = fr.attacks.RotationTranslation(
            max_angle=20, max_shift=2, angles=3, shifts=3, border=border, loss="margin"
        )
        result = attack.run(self.images, self.labels, model=self.model, stop_when_fooled=False)
        grid = itertools.product([-20.0, 0.0, 20.0], [-2.0, 0.0, 2.0], [-2.0, 0.0, 2.0])
        perturbation = fr.perturbations.Affine(border=border)
        margins = []
        for angle, down, right in grid:
            parameters = tf.repeat([[angle, down, right, 0.0]], 10, axis=0)
            logits = self.model(perturbation.apply(self.images, parameters)).numpy()
            label = logits[range(10), self.labels].copy()
            logits[range(10), self.labels] = -np.inf
            margins.append(logits.max(axis=1) - label)
        self.assertAllClose(result.loss, np.max(margins, axis=0), atol=1e-4)
        self.assertAllEqual(result.success, np.max(margins, axis=0) > 0)
        stopped = attack.run(self.images, self.labels, model=self.model)
        self.assertAllEqual(stopped.success, result.success)

    def test_no_room_is_the_image_itself(self):
        attack = fr.attacks.RotationTranslation(max_angle=0, max_shift=0, angles=1, shifts=1)
        self.assertAllEqual(attack(self.images, self.labels, model=self.model), self.images)

    def test_borders(self):
        images = np.ones([1, 6, 6, 1], "float32")
        shifted = tf.constant([[0.0, 2.5, 0.0, 0.0]])
        self.assertAllClose(fr.perturbations.Affine().apply(images, shifted), images)
        black = fr.perturbations.Affine(border="black").apply(images, shifted)
        self.assertAllClose(black[0, :, 3, 0], [0, 0, 0.5, 1, 1, 1])
        with self.assertRaisesRegex(ValueError, "Expected `border`.*'white'"):
            fr.perturbations.Affine(border="white")

    def test_bad_options(self):
        for options, message in (
            ({"candidates": "all"}, "Expected `candidates`.*'all'"),
            ({"max_angle": -1}, "Expected `max_angle`.*-1"),
            ({"angles": 0}, "Expected `angles`.*0"),
            ({"draws": 0}, "Expected `draws`.*0"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                fr.attacks.RotationTranslation(**options)


if __name__ == "__main__":
    tf.test.main()

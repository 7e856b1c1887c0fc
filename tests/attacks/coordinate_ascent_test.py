"""Tests of FlowCoordinateAscent where the worst flow is known, and no gradient leads to it."""

import itertools

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from tests import oracle

EPSILON = 0.5


def ends(images):
    """What each pixel becomes at the corners of the ball, and where it is: float `[9, batch, height, width, channels]`."""
    moves = itertools.product((-EPSILON, 0, EPSILON), repeat=2)
    return np.stack([oracle.warp(images, np.broadcast_to(move, (*images.shape[:3], 2))) for move in moves])


class Weighted(keras.Model):
    """Logits 3 and 0.3 Σ weight · pixel, added up in one order whatever the batch."""

    def __init__(self, weights):
        super().__init__()
        self.pixel_weights = tf.constant(weights, tf.float32)

    def call(self, images):
        lead = tf.reduce_sum(tf.reshape(images, [-1, 42]) * self.pixel_weights, axis=1)
        return tf.stack([3 + tf.zeros_like(lead), 0.3 * lead], axis=1)


class FlowCoordinateAscentTest(tf.test.TestCase):
    def problem(self, channels=1):
        """Images, a model whose second logit is Σ slope · |mix of colours - valley|, and the greatest that it can be.

        Its first logit is always greater.
        """
        generator = np.random.RandomState(0)
        images = generator.rand(3, 4, 5, channels).astype("float32")
        images[:, :, :2] = 0.5  # its first column cannot change
        mix, slopes = np.linspace(1, 0.5, channels), generator.uniform(0.5, 1.5, 20)
        reach = np.reshape(ends(images) @ mix, [9, 3, 20])
        # Between where a pixel is and its far end there is a valley, one for all images.
        valleys = np.mean((np.reshape(images @ mix, [3, 20]) + reach.min(axis=0) + reach.max(axis=0)) / 3, axis=0)
        greatest = np.sum(slopes * np.abs(reach - valleys).max(axis=0), axis=1)
        inputs = keras.Input([4, 5, channels])
        hidden, head = keras.layers.Dense(40, activation="relu"), keras.layers.Dense(2)
        model = keras.Model(inputs, head(hidden(keras.layers.Flatten()(inputs))))
        mixed = np.kron(np.eye(20), mix[:, None])
        hidden.set_weights([np.concatenate([mixed, -mixed], axis=1), np.concatenate([-valleys, valleys])])
        head.set_weights([np.stack([np.zeros(40), np.tile(slopes, 2)], axis=1), np.array([100.0, 0])])
        return images, model, greatest

    def reached(self, attack, images, model):
        result = attack.run(images, np.zeros(3, int), model=model)
        self.assertAllEqual(result.success, [False] * 3)
        return model(result.images).numpy()[:, 1]

    def test_reaches_across_every_valley(self):
        images, model, greatest = self.problem()
        attack = fr.attacks.FlowCoordinateAscent(EPSILON, loss="margin", steps=5, sweeps=2)
        self.assertAllClose(self.reached(attack, images, model), greatest, rtol=1e-5)
        gradients = fr.attacks.FlowFrankWolfe(EPSILON, loss="margin", steps=20, start="random", restarts=5)
        self.assertAllLess(self.reached(gradients, images, model) / greatest, 0.98)

    def test_tries_many_directions_of_colours(self):
        images, model, greatest = self.problem(channels=3)
        attack = fr.attacks.FlowCoordinateAscent(EPSILON, loss="margin", steps=5, sweeps=20)
        self.assertAllInRange(self.reached(attack, images, model) / greatest, 0.995, 1 + 1e-5)
        gradients = fr.attacks.FlowFrankWolfe(EPSILON, loss="margin", steps=20, start="random", restarts=5)
        self.assertAllLess(self.reached(gradients, images, model) / greatest, 0.98)

    def test_queries(self):
        images, model, _ = self.problem()
        images[1] = 0.5
        images[1, 2, 3] = 0.9  # only this one and its neighbours can change
        can_change = np.sum(np.ptp(ends(images), axis=0) > 0, axis=(1, 2, 3))
        self.assertLess(can_change[1], 10)

        def queries(**options):
            attack = fr.attacks.FlowCoordinateAscent(EPSILON, loss="margin", **options)
            return attack.run(images, np.zeros(3, int), model=model).queries

        # That of the clean image, the steps, where the sweeps start, and their pixels.
        self.assertAllEqual(queries(steps=3, sweeps=2), 1 + 3 + 1 + 2 * can_change)
        self.assertAllEqual(queries(steps=1, sweeps=1, pixels=7), [10] * 3)
        self.assertAllEqual(queries(steps=1, sweeps=1, restarts=2), 1 + 2 * (1 + 1 + can_change))

    def test_a_neighbour_with_more_pixels_does_not_matter(self):
        generator = np.random.RandomState(1)
        textured, model = generator.rand(1, 6, 7, 1).astype("float32"), Weighted(generator.randn(42))
        attack = fr.attacks.FlowCoordinateAscent(0.4, loss="margin", steps=2, sweeps=2)
        for level in np.linspace(0.01, 0.99, 12):
            nearly_flat = np.full([1, 6, 7, 1], level, "float32")
            nearly_flat[0, 2, 3] = 0.9
            alone = attack.run(nearly_flat, [0], model=model)
            beside = attack.run(np.concatenate([nearly_flat, textured]), [0, 0], model=model)
            self.assertAllEqual(beside.flow[0], alone.flow[0])
            self.assertAllEqual(beside.queries[0], alone.queries[0])


if __name__ == "__main__":
    tf.test.main()

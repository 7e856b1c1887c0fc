"""Tests of FlowFrankWolfe and of its oracle where the worst flow is known."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.ops.linear_maximization import extreme_displacements, maximizing_flow


class LinearMaximizationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.4, 1.0, 1.7)
    def test_nothing_within_a_box_goes_farther(self, epsilon):
        random = np.random.RandomState(0)
        images, direction = random.rand(2, 2, 7, 6, 3)
        displacements = extreme_displacements("linf", epsilon)
        flow, _ = maximizing_flow(tf.constant(images), tf.constant(direction), displacements, epsilon)
        self.assertAllLessEqual(tf.abs(flow), epsilon)
        reached = tf.reduce_sum(direction * fr.ops.dense_image_warp(images, flow), axis=-1)
        for _ in range(200):
            tried = tf.constant(random.uniform(-epsilon, epsilon, flow.shape))
            value = tf.reduce_sum(direction * fr.ops.dense_image_warp(images, tried), axis=-1)
            self.assertAllGreaterEqual(reached - value, -1e-9)

    def test_disc(self):
        displacements = extreme_displacements("pixel_l2", 1.5)
        displacements = np.array([[down.pixels(1.5), right.pixels(1.5)] for down, right in displacements])
        self.assertAllEqual(displacements[0], [0, 0])
        self.assertAllLessEqual(np.linalg.norm(displacements, axis=1), 1.5 + 1e-9)
        self.assertAllInSet(np.round(np.linalg.norm(displacements, axis=1), 6), [0, 1, round(2**0.5, 6), 1.5])

    @parameterized.product(norm=["linf", "pixel_l2"], epsilon=[0.1, 0.4, 1.0, 1.3])
    def test_flat_images_are_not_moved(self, norm, epsilon):
        levels = np.arange(256, dtype="float32")[:, None, None, None] / 255
        images = tf.broadcast_to(levels, [256, 4, 4, 2])
        _, is_moved = maximizing_flow(images, tf.ones_like(images), extreme_displacements(norm, epsilon), epsilon)
        self.assertAllEqual(is_moved, tf.zeros([256, 4, 4], tf.bool))


class FlowFrankWolfeTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        # One bright line: a step either way from it is darker, by more on the right.
        columns = np.array([0.5, 0.5, 0.4, 0.6, 0.1, 0.1], "float32")
        self.images = np.tile(columns[None, None, :, None], [1, 4, 1, 1])
        inputs = keras.Input([4, 6, 1])
        model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(keras.layers.Flatten()(inputs)))
        reader = np.zeros([4, 6], "float32")
        reader[1, 3] = 1
        model.set_weights([np.stack([np.zeros(24), 8 * reader.ravel()], axis=1)])
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self.model = model

    @parameterized.product(norm=["linf", "pixel_l2"], start=["zero", "random"])
    def test_reaches_across_the_kink_to_the_worst_side(self, norm, start):
        attack = fr.attacks.FlowFrankWolfe(0.8, steps=10, norm=norm, start=start)
        result = attack.run(self.images, np.array([1]), model=self.model, stop_when_fooled=False)
        adversarial, flow = result.images, result.flow
        # The darkest is 0.8 pixels to the right, 0.6 - 0.8 · 0.5; a flow points back.
        self.assertAllClose(adversarial[0, 1, 3, 0], 0.2, atol=1e-5)
        self.assertAllClose(flow[0, 1, 3, 1], -0.8, atol=1e-5)

    def test_gradient_ascent_that_starts_on_the_wrong_side_stays_there(self):
        starts = [fr.attacks.FlowPGD(0.8, steps=40, step_size=0.05, seed=seed) for seed in range(6)]
        reached = [
            attack(self.images, np.array([1]), model=self.model, stop_when_fooled=False)[0, 1, 3, 0].numpy()
            for attack in starts
        ]
        # The worst of its own side: darker by 0.8 of 0.5 on the right, of 0.2 on the left.
        for value in reached:
            self.assertLess(min(abs(value - 0.2), abs(value - 0.44)), 1e-3)
        self.assertGreater(max(reached), 0.4)

    def test_bad_options(self):
        for options, message in (
            ({"norm": "l2"}, "Expected `norm`.*'l2'"),
            ({"steps": 0}, "Expected `steps`.*0"),
            ({"step_decay": "x"}, "Expected `step_decay`"),
            ({"restarts": 2}, "Expected `start='random'`"),
            ({"momentum": -1}, "Expected `momentum`"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                fr.attacks.FlowFrankWolfe(0.1, **options)


if __name__ == "__main__":
    tf.test.main()

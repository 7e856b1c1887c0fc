"""Tests of PGD over any perturbation, and over intensities."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from tests import testing


class PGDTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, _ = testing.data(6)
        self.model = testing.network()
        self.model.compile("sgd", testing.cross_entropy())
        self.labels = np.argmax(self.model(self.images), axis=1)

    def test_flow_pgd_is_pgd_over_flows(self):
        ours = fr.attacks.PGD(fr.perturbations.Flow("forward"), 0.4, steps=4)
        theirs = fr.attacks.FlowPGD(0.4, steps=4, lattice="forward")
        self.assertAllEqual(
            ours(self.images, self.labels, model=self.model), theirs(self.images, self.labels, model=self.model)
        )

    def test_a_users_own_perturbation(self):
        class Brightness(fr.perturbations.Perturbation):
            def parameter_shape(self, images):
                return tf.stack([tf.shape(images)[0], 1, 1, 1])

            def apply(self, images, parameters):
                return images + parameters

            def flow(self, images, parameters):
                return tf.zeros(tf.concat([tf.shape(images)[:3], [2]], axis=0))

        attack = fr.attacks.PGD(Brightness(), 0.1, steps=10, start="zero", step_decay="linear")
        result = attack.run(self.images, self.labels, model=self.model, stop_when_fooled=False)
        losses = [
            fr.ops.per_example_loss(
                testing.cross_entropy(), self.labels, self.model(np.clip(self.images + shift, 0, 1))
            )
            for shift in np.linspace(-0.1, 0.1, 41)
        ]
        self.assertAllClose(result.loss, np.max(losses, axis=0), rtol=1e-3)

    def test_perturbations_of_one_class_are_told_apart(self):
        class Shift(fr.perturbations.Perturbation):
            def __init__(self, scale):
                self.scale = scale

            def parameter_shape(self, images):
                return tf.stack([tf.shape(images)[0], 1])

            def apply(self, images, parameters):
                return images + self.scale * parameters[:, :, tf.newaxis, tf.newaxis]

            def flow(self, images, parameters):
                return fr.perturbations.Additive().flow(images, parameters)

        large, small = (
            fr.attacks.PGD(Shift(scale), 0.1, steps=3, start="zero", value_range=(-9, 9)) for scale in (10.0, 0.1)
        )
        for attack in (large, small, large):
            result = attack.run(self.images, self.labels, model=self.model, stop_when_fooled=False)
            self.assertAllEqual(result.success, np.argmax(self.model(result.images), axis=1) != self.labels)
            moved = np.max(np.abs(result.images - self.images), axis=(1, 2, 3))
            self.assertAllInRange(moved, 0, 0.1 * attack.perturbation.scale + 1e-6)
        self.assertTrue(large.run(self.images, self.labels, model=self.model).success.numpy().any())
        self.assertNotEqual(large, small)
        self.assertEqual(large, large.replace())
        self.assertNotEqual(large.settings(), small.settings())

    def test_not_a_perturbation(self):
        with self.assertRaisesRegex(TypeError, "Expected `perturbation` to be a Perturbation. Received 'flow'"):
            fr.attacks.PGD("flow", 0.1)


class IntensityPGDTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("linf", "l2")
    def test_worst_noise_of_a_linear_model(self, norm):
        image = np.full([1, 4, 4, 1], 0.5, "float32")
        inputs = keras.Input([4, 4, 1])
        model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
        kernel = np.random.RandomState(0).randn(16).astype("float32")
        model.set_weights([np.stack([kernel, 0 * kernel], axis=1), np.array([9.0, 0.0], "float32")])
        attack = fr.attacks.IntensityPGD(0.1, steps=5, norm=norm, start="zero", loss="margin")
        result = attack.run(image, np.array([0]), model=model)
        direction = -np.sign(kernel) if norm == "linf" else -kernel / np.linalg.norm(kernel)
        self.assertAllClose(result.parameters[0].numpy().ravel(), 0.1 * direction, atol=1e-5)
        self.assertAllClose(result.images - image, result.parameters, atol=1e-6)

    @parameterized.parameters({"steps": 30}, {"steps": 30, "momentum": 0.5})
    def test_a_random_start_out_of_the_range_of_values_finds_its_way_back(self, **options):
        image, weights = np.zeros([1, 4, 4, 1], "float32"), np.random.RandomState(0).randn(16, 2).astype("float32")
        model = keras.Sequential([keras.Input([4, 4, 1]), keras.layers.Flatten(), keras.layers.Dense(2)])
        model.set_weights([weights, np.array([9.0, 0.0], "float32")])
        result = fr.attacks.IntensityPGD(0.1, loss="margin", **options).run(image, np.array([0]), model=model)
        self.assertAllClose(result.loss + 9, [0.1 * np.maximum(weights[:, 1] - weights[:, 0], 0).sum()], atol=1e-4)

    def test_images_stay_in_their_range(self):
        images, _ = testing.data(4)
        model = testing.network()
        labels = np.argmax(model(images), axis=1)
        adversarial = fr.attacks.IntensityPGD(0.5, steps=3, loss="margin")(images, labels, model=model)
        self.assertAllInRange(adversarial, 0.0, 1.0)

    def test_bad_norm(self):
        with self.assertRaisesRegex(ValueError, "Expected `norm`.*'pixel_l2'"):
            fr.attacks.IntensityPGD(0.1, norm="pixel_l2")


if __name__ == "__main__":
    tf.test.main()

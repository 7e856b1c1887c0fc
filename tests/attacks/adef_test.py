"""Tests of ADef where the smallest deformation is known: a ramp, which a warp changes linearly."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from tests import testing

SLOPE = 0.1  # of the ramp, a pixel


def ramp():
    return np.tile(SLOPE * np.arange(11, dtype="float32")[None, None, :, None], [1, 6, 1, 1])


def reading_model(readers, leads):
    """Class 0's logit is 0; class k's is readers[k - 1] · (x - ramp) - leads[k - 1]."""
    inputs = keras.Input([6, 11, 1])
    model = keras.Model(inputs, keras.layers.Dense(len(readers) + 1)(keras.layers.Flatten()(inputs)))
    kernel = np.stack([np.zeros(66), *(reader.ravel() for reader in readers)], axis=1).astype("float32")
    bias = -ramp().reshape(1, -1) @ kernel
    model.set_weights([kernel, (bias[0] - np.array([0.0, *leads])).astype("float32")])
    return model


def random_reader(seed, scale=1.0, rows=slice(1, -1)):
    reader = np.zeros([6, 11])
    reader[rows, 2:-2] = scale * np.random.RandomState(seed).randn(*reader[rows, 2:-2].shape)
    return reader


def far_and_near():
    """Readers and leads of two classes: the second is further by its logit, and nearer by its gradient."""
    return [random_reader(0, 0.2, slice(1, 3)), random_reader(1, 2.0, slice(3, 5))], [0.1, 0.2]


class ADefTest(tf.test.TestCase, parameterized.TestCase):
    def run_attack(self, model, **options):
        options = {"overshoot": 1e-3, "smoothing": 0.0, **options}
        return fr.attacks.ADef(**options).run(ramp(), np.array([0]), model=model)

    def test_a_gradient_whose_square_is_zero(self):
        reader, lead = 1e3 * random_reader(0), 70.0  # Of a softmax, whose derivative is e^-70.
        network = reading_model([reader], [lead])
        model = keras.Sequential([network, keras.layers.Softmax()])
        gradient = fr.input_gradients(model, ramp(), [0], loss="margin")
        self.assertEqual(tf.reduce_sum(tf.square(gradient)), 0.0)
        self.assertGreater(tf.reduce_max(tf.abs(gradient)), 0.0)
        result = self.run_attack(model, steps=20)
        self.assertAllEqual(result.success, [True])

    def test_least_squares_flow(self):
        reader, lead = random_reader(0), 0.1
        result = self.run_attack(reading_model([reader], [lead]), steps=1)
        # T(x; f) = x - SLOPE · dx, so the reading rises by -SLOPE · <reader, dx>; the shortest dx is along it.
        expected = -lead / (SLOPE * np.sum(reader**2)) * reader
        self.assertAllEqual(result.success, [True])
        self.assertAllEqual(result.queries, [3])
        self.assertAllClose(result.flow[0, :, :, 1], 1.001 * expected, atol=1e-5)
        self.assertAllClose(result.flow[0, :, :, 0], np.zeros([6, 11]), atol=1e-6)

    def test_smoothed_least_squares_flow(self):
        reader, lead = random_reader(0), 0.05
        model = reading_model([reader], [lead])
        result = self.run_attack(model, steps=1, smoothing=0.8)
        spreads = []
        for size in (6, 11):
            distances = np.arange(size)[:, None] - np.arange(size)
            weights = np.exp(-0.5 * (distances / 0.8) ** 2)
            spreads.append(weights / weights.sum(axis=1, keepdims=True))
        # f = A θ Bᵀ: the shortest θ is along Aᵀ reader B.
        spread = spreads[0].T @ reader @ spreads[1]
        expected = spreads[0] @ (-lead / (SLOPE * np.sum(spread**2)) * spread) @ spreads[1].T
        self.assertAllEqual(result.success, [True])
        self.assertAllClose(result.flow[0, :, :, 1], 1.001 * expected, atol=1e-5)

    def test_takes_the_class_with_the_smaller_field(self):
        readers, leads = far_and_near()
        model = reading_model(readers, leads)
        result = self.run_attack(model, classes=2)
        self.assertEqual(np.argmax(model(result.images)), 2)
        self.assertAllClose(
            result.flow[0, :, :, 1], 1.001 * -leads[1] / (SLOPE * np.sum(readers[1] ** 2)) * readers[1], atol=1e-5
        )
        only_the_likeliest = self.run_attack(model, classes=1)
        self.assertEqual(np.argmax(model(only_the_likeliest.images)), 1)

    def test_targeted(self):
        model = reading_model(*far_and_near())
        attack = fr.attacks.ADef(targeted=True, smoothing=0.0, steps=10)
        result = attack.run(ramp(), np.array([1]), model=model)
        self.assertAllEqual(result.success, [True])
        self.assertEqual(np.argmax(model(result.images)), 1)

    def test_radius_and_longest_step(self):
        model = reading_model([random_reader(0)], [0.1])
        needed = float(self.run_attack(model).displacement.largest[0])
        self.assertAllEqual(self.run_attack(model, epsilon=1.01 * needed).success, [True])
        failed = self.run_attack(model, epsilon=0.5 * needed)
        self.assertAllEqual(failed.success, [False])
        self.assertAllClose(failed.displacement.largest, [0.5 * needed], rtol=1e-4)
        one_step = self.run_attack(model, steps=1, max_step=0.25 * needed)
        self.assertAllClose(one_step.displacement.largest, [0.25 * needed], rtol=0.01)
        self.assertAllEqual(self.run_attack(model, steps=5, max_step=0.25 * needed).success, [True])
        too_far = self.run_attack(model, steps=1, max_step=0.25 * needed, overshoot=0.5)
        self.assertAllClose(too_far.displacement.largest, [0.25 * needed], rtol=1e-4)

    def test_a_subclass_is_compiled_for_itself(self):
        class ToTheLikeliestClass(fr.attacks.ADef):
            def _leads(self, predictions, labels):
                return super()._leads(predictions, labels)[:1]

        model = reading_model(*far_and_near())
        found = [
            attack(steps=1, loss="margin", classes=2).run(ramp(), [0], model=model).parameters
            for attack in (fr.attacks.ADef, ToTheLikeliestClass, fr.attacks.ADef)
        ]
        self.assertAllEqual(found[0], found[2])
        self.assertNotAllClose(found[0], found[1])

    @parameterized.parameters(0.0, 1.0)
    def test_fools_a_network_by_less_than_others_need(self, smoothing):
        images, _ = testing.data(16)
        model = testing.network()
        labels = np.argmax(model(images), axis=1)
        result = fr.attacks.ADef(smoothing=smoothing).run(images, labels, model=model)
        self.assertAllEqual(result.success, np.argmax(model(result.images), axis=1) != labels)
        self.assertGreater(np.mean(result.success), 0.9)
        # In a ball of half the length that it needed, random flows fool nothing.
        random = fr.attacks.RandomFlow(0.5 * np.median(result.displacement.largest), loss="margin")
        self.assertLess(np.mean(random.run(images, labels, model=model).success), 0.2)

    def test_a_model_without_a_gradient_is_left_alone(self):
        result = self.run_attack(reading_model([np.zeros([6, 11])], [0.1]), steps=3)
        self.assertAllEqual(result.success, [False])
        self.assertAllEqual(result.images, ramp())

    def test_bad_options(self):
        for options, message in (
            ({"epsilon": -1}, "Expected `epsilon`.*-1"),
            ({"steps": 0}, "Expected `steps`.*0"),
            ({"classes": 0}, "Expected `classes`.*0"),
            ({"smoothing": -1}, "Expected `smoothing`"),
            ({"max_step": 0}, "Expected `max_step`"),
            ({"overshoot": -1}, "Expected `overshoot`"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                fr.attacks.ADef(**options)


if __name__ == "__main__":
    tf.test.main()

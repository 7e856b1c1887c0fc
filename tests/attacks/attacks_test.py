"""Contract tests that every attack passes; a new attack is tested by adding a row."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import balls
from tests import models_test

EPSILON = 0.6
ATTACKS = (
    ("pgd", fr.attacks.FlowPGD, {"steps": 5}),
    ("pgd_from_zero", fr.attacks.FlowPGD, {"steps": 5, "random_start": False}),
    ("pgd_restarts", fr.attacks.FlowPGD, {"steps": 3, "restarts": 3}),
    ("pgd_pixel_l2", fr.attacks.FlowPGD, {"steps": 5, "norm": "pixel_l2"}),
    ("pgd_l2", fr.attacks.FlowPGD, {"steps": 5, "norm": "l2"}),
    ("pgd_forward", fr.attacks.FlowPGD, {"steps": 5, "lattice": "forward"}),
)


class AttackContractTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = models_test.data(24)
        self.model = models_test.network()
        self.model.compile("sgd", models_test.cross_entropy())
        # Labels that the model gets right, but for a few.
        self.labels = np.argmax(self.model(self.images), axis=1)
        self.labels[:4] = (self.labels[:4] + 1) % models_test.CLASSES

    def attack(self, kind, options):
        return kind(self.model, EPSILON, **options)

    def losses(self, images):
        return fr.ops.per_example_loss(models_test.cross_entropy(), self.labels, self.model(images))

    @parameterized.named_parameters(*ATTACKS)
    def test_raises_the_loss_within_its_ball_and_range(self, kind, options):
        adversarial, flow = self.attack(kind, options)(self.images, self.labels, return_perturbation=True)
        self.assertEqual(adversarial.shape, self.images.shape)
        norm = balls.get(options.get("norm", "linf"), EPSILON).norm(flow)
        self.assertAllLessEqual(norm, EPSILON * (1 + 1e-5))
        self.assertAllInRange(adversarial, 0.0, 1.0)
        self.assertAllClose(adversarial, fr.ops.dense_image_warp(self.images, flow), atol=1e-6)
        gains = (self.losses(adversarial) - self.losses(self.images)).numpy()
        self.assertAllGreaterEqual(gains, 0)
        self.assertGreater(np.mean(gains > 1e-3), 0.9)

    @parameterized.named_parameters(*ATTACKS)
    def test_beats_random_flows(self, kind, options):
        ball = balls.get(options.get("norm", "linf"), EPSILON)
        best_random = tf.reduce_max(
            [
                self.losses(fr.ops.dense_image_warp(self.images, ball.sample([*self.images.shape[:3], 2], [s, 0])))
                for s in range(10)
            ],
            axis=0,
        )
        reached = self.losses(self.attack(kind, options)(self.images, self.labels))
        self.assertGreater(np.mean(reached > best_random), 0.9)

    @parameterized.named_parameters(*ATTACKS)
    def test_repeats_with_its_seed_and_not_with_another(self, kind, options):
        attack = self.attack(kind, options)
        first = attack(self.images, self.labels)
        self.assertAllEqual(attack(self.images, self.labels), first)
        self.assertAllEqual(self.attack(kind, options)(self.images, self.labels), first)
        if options.get("random_start", True):
            self.assertNotAllEqual(self.attack(kind, {**options, "seed": 1})(self.images, self.labels), first)

    @parameterized.named_parameters(*ATTACKS)
    def test_an_examples_neighbours_do_not_matter(self, kind, options):
        attack = self.attack(kind, options)
        together = attack(self.images, self.labels)
        others = np.concatenate([self.images[:3], 1 - self.images[3:]])
        self.assertAllClose(attack(others, self.labels)[:3], together[:3], atol=1e-5)
        self.assertAllClose(attack(self.images[:3], self.labels[:3]), together[:3], atol=1e-5)

    @parameterized.named_parameters(*ATTACKS)
    def test_smaller_batches_are_not_traced_again(self, kind, options):
        traces = []

        class Counted(keras.Model):
            def __init__(self, network):
                super().__init__()
                self.network = network

            def call(self, images):
                traces.append(1)
                return self.network(images)

        self.model = Counted(self.model)
        self.model.compile("sgd", models_test.cross_entropy())
        attack = self.attack(kind, options)
        attack(self.images, self.labels)
        traced = len(traces)
        for size in (24, 7, 1):
            attack(self.images[:size], self.labels[:size])
        self.assertLen(traces, traced)

    def test_another_model_or_loss_is_compiled_anew(self):
        attack = fr.attacks.FlowPGD(self.model, EPSILON, 3)
        attack(self.images, self.labels)
        self.model.compile("sgd", "sparse_categorical_crossentropy")
        self.assertAllClose(
            attack(self.images, self.labels),
            fr.attacks.FlowPGD(self.model, EPSILON, 3, loss="sparse_categorical_crossentropy")(self.images, self.labels),
        )

    @parameterized.named_parameters(*ATTACKS)
    def test_in_a_graph_one_hot_and_integer_labels(self, kind, options):
        attack = self.attack(kind, options)
        expected = attack(self.images, self.labels)
        self.assertAllClose(tf.function(attack)(self.images, self.labels), expected, atol=1e-5)
        self.assertAllClose(attack(self.images, self.labels[:, None].astype("int32")), expected, atol=1e-5)
        one_hot = np.eye(models_test.CLASSES, dtype="float32")[self.labels]
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.assertAllClose(self.attack(kind, {**options, "loss": loss})(self.images, one_hot), expected, atol=1e-5)

    @parameterized.named_parameters(*ATTACKS)
    def test_configuration_round_trip(self, kind, options):
        attack = self.attack(kind, {**options, "loss": models_test.cross_entropy(), "seed": 3})
        copy = keras.layers.deserialize(keras.layers.serialize(attack))
        self.assertIs(type(copy), kind)
        for key, value in attack.get_config().items():
            if key not in ("model", "loss"):
                self.assertEqual(copy.get_config()[key], value, key)
        copy.model = self.model
        self.assertAllClose(copy(self.images, self.labels), attack(self.images, self.labels), atol=1e-6)

    @parameterized.named_parameters(*ATTACKS)
    def test_zero_epsilon_is_the_clean_image(self, kind, options):
        self.assertAllClose(kind(self.model, 0.0, **options)(self.images, self.labels), self.images, atol=1e-6)

    @parameterized.named_parameters(*ATTACKS)
    def test_bad_input(self, kind, options):
        with self.assertRaisesRegex(ValueError, "Expected `epsilon`.*-0.1"):
            kind(self.model, -0.1, **options)
        with self.assertRaisesRegex(TypeError, "Expected `model` to be a keras.Model"):
            kind(lambda images: images, EPSILON, **options)
        with self.assertRaisesRegex(ValueError, "Expected `value_range`"):
            self.attack(kind, {**options, "value_range": (1.0, 0.0)})
        attack = self.attack(kind, options)
        with self.assertRaisesRegex(ValueError, r"Expected `images` .*\[batch, height, width, channels\]"):
            attack(self.images[0], self.labels[:1])
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, r"values from 0.0 to 1.0 \(`value_range`\)"):
            attack(255 * self.images, self.labels)
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "Expected finite images. Received NaN"):
            attack(np.full_like(self.images, np.nan), self.labels)
        uncompiled = models_test.network()
        with self.assertRaisesRegex(ValueError, "Expected a loss"):
            kind(uncompiled, EPSILON, **options)(self.images, self.labels)


if __name__ == "__main__":
    tf.test.main()

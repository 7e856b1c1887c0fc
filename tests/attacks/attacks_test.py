"""Contract tests that every attack passes; a new attack is tested by adding a row."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.attacks import base
from tests import testing

EPSILON = 0.6
BOUNDED = (
    ("pgd", fr.attacks.FlowPGD, {"steps": 5}),
    ("pgd_from_zero", fr.attacks.FlowPGD, {"steps": 5, "random_start": False, "momentum": 0.5}),
    ("pgd_restarts", fr.attacks.FlowPGD, {"steps": 3, "restarts": 3, "step_decay": "cosine"}),
    ("pgd_pixel_l2", fr.attacks.FlowPGD, {"steps": 5, "norm": "pixel_l2"}),
    ("pgd_l2", fr.attacks.FlowPGD, {"steps": 5, "norm": "l2"}),
    ("pgd_smooth", fr.attacks.FlowPGD, {"steps": 5, "control_points": 4, "random_start": False}),
    ("pgd_of_a_perturbation", fr.attacks.PGD, {"perturbation": fr.perturbations.Flow("forward"), "steps": 5}),
    ("intensity_pgd", fr.attacks.IntensityPGD, {"steps": 5}),
    ("fgsm", fr.attacks.FlowFGSM, {}),
    ("frank_wolfe", fr.attacks.FlowFrankWolfe, {"steps": 5}),
    ("frank_wolfe_pixel_l2", fr.attacks.FlowFrankWolfe, {"steps": 3, "random_start": True, "norm": "pixel_l2"}),
    ("random", fr.attacks.RandomFlow, {"draws": 5}),
    ("spsa", fr.attacks.FlowSPSA, {"queries": 60, "samples": 4}),
    ("square", fr.attacks.FlowSquare, {"queries": 30}),
    ("adef_bounded", fr.attacks.ADef, {"steps": 5, "loss": None}),
    ("auto_deform", fr.attacks.AutoDeform, {}),
)
UNBOUNDED = (
    ("grid", fr.attacks.RotationTranslation, {"candidates": "grid", "angles": 3, "shifts": 3}),
    ("worst_of_k", fr.attacks.RotationTranslation, {"candidates": "random", "draws": 5}),
    ("st_adv", fr.attacks.StAdv, {"steps": 10, "searches": 2, "loss": None}),
    ("adef", fr.attacks.ADef, {"steps": 5, "loss": None}),
)
ATTACKS = (*((name, kind, {"epsilon": EPSILON, **options}) for name, kind, options in BOUNDED), *UNBOUNDED)
# Without the one that is slow to compile, for what its members are tested for.
LIGHT = tuple(row for row in ATTACKS if row[1] is not fr.attacks.AutoDeform)
# Those that are slow to compile, or seek the smallest flow and not the greatest loss.
NOT_ASCENTS = (fr.attacks.AutoDeform, fr.attacks.ADef)
# One of each class, for what does not depend on the options.
CLASSES = tuple({row[1]: row for row in reversed(LIGHT)}.values())


class AttackContractTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = testing.data(24)
        self.model = testing.network()
        self.model.compile("sgd", testing.cross_entropy())
        # Labels that the model gets right, but for a few.
        self.labels = np.argmax(self.model(self.images), axis=1)
        self.labels[:4] = (self.labels[:4] + 1) % testing.CLASSES

    def losses(self, images, labels=None):
        labels = self.labels if labels is None else labels
        return fr.ops.per_example_loss(testing.cross_entropy(), labels, self.model(images))

    @parameterized.named_parameters(*ATTACKS)
    def test_what_every_attack_promises(self, kind, options):
        attack = kind(self.model, **options)
        result = attack.run(self.images, self.labels)
        adversarial, parameters = attack(self.images, self.labels, return_perturbation=True)
        self.assertAllEqual(adversarial, result.images)
        self.assertAllEqual(parameters, result.parameters)
        self.assertAllInRange(adversarial, 0.0, 1.0)
        if attack.epsilon is not None:
            self.assertAllLessEqual(attack.ball.norm(result.parameters), EPSILON * (1 + 1e-5))
            self.assertAllLessEqual(attack.ball.norm(result.flow), EPSILON * (1 + 1e-5))
        if kind is fr.attacks.IntensityPGD:
            self.assertAllEqual(result.flow, tf.zeros_like(result.flow))
            self.assertAllClose(adversarial, np.clip(self.images + result.parameters, 0, 1), atol=1e-6)
        else:
            self.assertAllClose(adversarial, fr.ops.dense_image_warp(self.images, result.flow), atol=1e-5)
        self.assertAllClose(result.loss, self.losses(adversarial), atol=1e-4)
        self.assertAllGreaterEqual(result.loss - result.clean_loss, 0)
        wrong = np.argmax(self.model(adversarial), axis=1) != self.labels
        refused = wrong & (result.loss.numpy() <= result.clean_loss.numpy() + 1e-4)
        self.assertAllEqual(result.success.numpy()[~refused], wrong[~refused])
        lengths = np.linalg.norm(result.flow, axis=-1)
        self.assertAllClose(result.displacement.largest, lengths.max(axis=(1, 2)), atol=1e-5)
        self.assertAllClose(result.displacement.median, np.median(lengths, axis=(1, 2)), atol=1e-5)

    @parameterized.named_parameters(*ATTACKS)
    def test_no_work_on_examples_that_are_broken_already(self, kind, options):
        result = kind(self.model, **options).run(self.images, self.labels)
        self.assertAllEqual(result.clean_success, np.arange(len(self.labels)) < 4)
        self.assertAllEqual(result.images[:4], self.images[:4])
        self.assertAllEqual(result.queries[:4], [1] * 4)
        self.assertAllEqual(result.loss[:4], result.clean_loss[:4])
        self.assertAllGreater(result.queries[4:], 1)

    @parameterized.named_parameters(*ATTACKS)
    def test_targeted_margin(self, kind, options):
        targets = (np.argmax(self.model(self.images), axis=1) + 1) % testing.CLASSES
        result = kind(self.model, **{**options, "targeted": True, "loss": "margin"}).run(self.images, targets)
        self.assertAllEqual(result.success, np.argmax(self.model(result.images), axis=1) == targets)
        self.assertAllEqual(result.success, result.loss > 0)
        self.assertGreater(np.mean(result.loss - result.clean_loss), 0.01)
        self.assertFalse(any(result.clean_success))

    @parameterized.named_parameters(*((n, k, o) for n, k, o in BOUNDED if k.uses_gradients and k not in NOT_ASCENTS))
    def test_beats_random_flows(self, kind, options):
        attack = kind(self.model, epsilon=EPSILON, **options)
        best_random = tf.reduce_max(
            [
                self.losses(
                    fr.ops.dense_image_warp(self.images, attack.ball.sample([*self.images.shape[:3], 2], [s, 0]))
                )
                for s in range(10)
            ],
            axis=0,
        )
        reached = self.losses(attack(self.images, self.labels, stop_when_broken=False))
        enough = 0.6 if "control_points" in options else 0.9
        self.assertGreater(np.mean(reached > best_random), enough)

    @parameterized.named_parameters(*LIGHT)
    def test_repeats_with_its_seed_and_not_with_another(self, kind, options):
        first = kind(self.model, **options)(self.images, self.labels)
        self.assertAllEqual(kind(self.model, **options)(self.images, self.labels), first)
        gradient_free = not kind.uses_gradients and options.get("candidates") != "grid"
        if options.get("random_start", issubclass(kind, fr.attacks.PGD)) or gradient_free:
            self.assertNotAllEqual(kind(self.model, seed=1, **options)(self.images, self.labels), first)

    @parameterized.named_parameters(*ATTACKS)
    def test_an_examples_neighbours_do_not_matter(self, kind, options):
        attack = kind(self.model, **options)
        together = attack(self.images, self.labels)
        others = np.concatenate([self.images[:3], 1 - self.images[3:]])
        self.assertAllClose(attack(others, self.labels)[:3], together[:3], atol=1e-5)
        # Nor does how many of them are broken before it.
        broken = np.concatenate([self.labels[:5], (self.labels[5:15] + 1) % testing.CLASSES, self.labels[15:]])
        self.assertAllClose(attack(self.images, broken)[15:], together[15:], atol=1e-5)
        self.assertAllClose(attack(self.images[:3], self.labels[:3]), together[:3], atol=1e-5)

    @parameterized.named_parameters(*CLASSES)
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
        self.model.compile("sgd", testing.cross_entropy())
        attack = kind(self.model, **options)
        attack(self.images, self.labels)
        traced = len(traces)
        for size in (24, 7, 1):
            attack(self.images[:size], self.labels[:size])
        self.assertLen(traces, traced)

    @parameterized.parameters("margin", "log_odds", "sparse_categorical_crossentropy", None)
    def test_a_loss_is_compiled_once(self, loss):
        attack = fr.attacks.FlowFGSM(self.model, EPSILON, loss=loss)
        for _ in range(3):
            attack(self.images, self.labels)
        self.assertLen(attack._compiled, 1)

    @parameterized.parameters(
        (None, "sparse_categorical_crossentropy"), ("log_odds", fr.ops.LogOddsLoss(from_logits=False))
    )
    def test_another_model_or_loss_is_compiled_anew(self, loss, expected):
        attack = fr.attacks.FlowPGD(self.model, EPSILON, 3, loss=loss)
        attack(self.images, self.labels)
        self.model.compile("sgd", "sparse_categorical_crossentropy")
        self.assertAllClose(
            attack(self.images, self.labels),
            fr.attacks.FlowPGD(self.model, EPSILON, 3, loss=expected)(self.images, self.labels),
        )

    @parameterized.named_parameters(*CLASSES)
    def test_in_a_graph_one_hot_and_integer_labels(self, kind, options):
        attack = kind(self.model, **options)
        expected = attack(self.images, self.labels)
        self.assertAllClose(tf.function(attack)(self.images, self.labels), expected, atol=1e-5)
        self.assertAllClose(attack(self.images, self.labels[:, None].astype("int32")), expected, atol=1e-5)
        one_hot = np.eye(testing.CLASSES, dtype="float32")[self.labels]
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.assertAllClose(kind(self.model, **{**options, "loss": loss})(self.images, one_hot), expected, atol=1e-5)

    @parameterized.named_parameters(*LIGHT)
    def test_configuration_round_trip(self, kind, options):
        attack = kind(self.model, **{**options, "loss": testing.cross_entropy(), "seed": 3})
        copy = keras.layers.deserialize(keras.layers.serialize(attack))
        self.assertIs(type(copy), kind)
        for key, value in attack.get_config().items():
            if key not in ("model", "loss", "perturbation"):
                self.assertEqual(copy.get_config()[key], value, key)
        copy.model = self.model
        self.assertAllClose(copy(self.images, self.labels), attack(self.images, self.labels), atol=1e-6)

    @parameterized.named_parameters(*BOUNDED)
    def test_radius(self, kind, options):
        attack = kind(self.model, epsilon=EPSILON, **options)
        self.assertAllClose(attack.at(0.0)(self.images, self.labels), self.images, atol=1e-6)
        self.assertEqual(attack.at(0.3).get_config(), {**attack.get_config(), "epsilon": 0.3})
        with self.assertRaisesRegex(ValueError, "Expected `epsilon`.*-0.1"):
            kind(self.model, epsilon=-0.1, **options)

    @parameterized.named_parameters(*CLASSES)
    def test_bad_input(self, kind, options):
        with self.assertRaisesRegex(TypeError, "Expected `model` to be a keras.Model"):
            kind(lambda images: images, **options)
        with self.assertRaisesRegex(ValueError, "Expected `value_range`"):
            kind(self.model, **{**options, "value_range": (1.0, 0.0)})
        attack = kind(self.model, **options)
        with self.assertRaisesRegex(ValueError, r"Expected `images` .*\[batch, height, width, channels\]"):
            attack(self.images[0], self.labels[:1])
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, r"values from 0.0 to 1.0 \(`value_range`\)"):
            attack(255 * self.images, self.labels)
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "Expected finite images. Received NaN"):
            attack(np.full_like(self.images, np.nan), self.labels)
        uncompiled = testing.network()
        with self.assertRaisesRegex(ValueError, "Expected a loss"):
            kind(uncompiled, **options)(self.images, self.labels)


class TableTest(tf.test.TestCase):
    def test_every_attack_is_in_the_table(self):
        kinds = {getattr(fr.attacks, name) for name in fr.attacks.__all__}
        attacks = {kind for kind in kinds if issubclass(kind, keras.layers.Layer) and kind is not fr.attacks.Attack}
        self.assertEqual({kind for _, kind, _ in ATTACKS}, attacks)


class KeepBetterTest(tf.test.TestCase):
    def kept(self, best, new, **options):
        parameters = tf.constant([[1.0]])

        def candidate(sign, success, loss):
            return base.Candidate(sign * parameters, tf.constant([success]), tf.constant([loss]), tf.constant([1]))

        kept = base.keep_better(candidate(1, *best), candidate(-1, *new), tf.constant([0.5]), **options)
        return "new" if kept.parameters[0, 0] < 0 else "best"

    def test_order(self):
        nan = float("nan")
        for best, new, expected in (
            ((False, 1.0), (False, 2.0), "new"),
            ((False, 2.0), (False, 1.0), "best"),
            ((False, 9.0), (True, 0.6), "new"),
            # A success below the clean image's loss does not count.
            ((False, 0.5), (True, 0.4), "best"),
            ((True, 1.0), (True, 2.0), "best"),
            ((False, 1.0), (False, nan), "best"),
            ((False, 1.0), (True, nan), "best"),
        ):
            self.assertEqual(self.kept(best, new), expected, (best, new))
        self.assertEqual(self.kept((True, 1.0), (True, 2.0), stop_when_broken=False), "new")
        self.assertEqual(self.kept((True, 1.0), (False, 2.0), stop_when_broken=False), "best")


if __name__ == "__main__":
    tf.test.main()

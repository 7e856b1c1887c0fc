"""Contract tests that every attack passes; a new attack is tested by adding a row."""

import copy
import functools
import json
import pickle

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from tests import testing

EPSILON = 0.6
BOUNDED = (
    ("pgd", fr.attacks.FlowPGD, {"steps": 5}),
    ("pgd_from_zero", fr.attacks.FlowPGD, {"steps": 5, "start": "zero", "momentum": 0.5}),
    ("pgd_restarts", fr.attacks.FlowPGD, {"steps": 3, "restarts": 3, "step_decay": "cosine"}),
    ("pgd_pixel_l2", fr.attacks.FlowPGD, {"steps": 5, "norm": "pixel_l2"}),
    ("pgd_l2", fr.attacks.FlowPGD, {"steps": 5, "norm": "l2"}),
    ("pgd_smooth", fr.attacks.FlowPGD, {"steps": 5, "control_points": 4, "start": "zero"}),
    ("pgd_of_a_perturbation", fr.attacks.PGD, {"perturbation": fr.perturbations.Flow("forward"), "steps": 5}),
    ("intensity_pgd", fr.attacks.IntensityPGD, {"steps": 5}),
    ("fgsm", fr.attacks.FlowFGSM, {}),
    ("frank_wolfe", fr.attacks.FlowFrankWolfe, {"steps": 5}),
    ("frank_wolfe_pixel_l2", fr.attacks.FlowFrankWolfe, {"steps": 3, "start": "random", "norm": "pixel_l2"}),
    ("coordinate_ascent", fr.attacks.FlowCoordinateAscent, {"steps": 3, "sweeps": 1, "pixels": 20}),
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
ATTACKS = (*((name, cls, {"epsilon": EPSILON, **options}) for name, cls, options in BOUNDED), *UNBOUNDED)
# Without the one that is slow to compile, for what its members are tested for.
LIGHT = tuple(row for row in ATTACKS if row[1] is not fr.attacks.AutoDeform)
# Those that are slow to compile, or seek the smallest flow and not the greatest loss.
NOT_ASCENTS = (fr.attacks.AutoDeform, fr.attacks.ADef)
# One of each class, for what does not depend on the options.
CLASSES = tuple({row[1]: row for row in reversed(LIGHT)}.values())
# Those that read labels each in its own way; others only hand them to the loss.
ON_ONE_HOT = (fr.attacks.FlowFGSM, fr.attacks.ADef, fr.attacks.StAdv)


@functools.cache
def shared_network():
    """One model for all tests that leave it as it is: what is compiled for it is compiled once."""
    return compiled_network()


def compiled_network():
    model = testing.network()
    model.compile("sgd", testing.cross_entropy())
    return model


class AttackContractTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = testing.data(24)
        self.model = shared_network()
        # Labels that the model gets right, but for a few.
        self.labels = np.argmax(self.model(self.images), axis=1)
        self.labels[:4] = (self.labels[:4] + 1) % testing.CLASSES

    def test_half_precision_finds_what_single_precision_does_at_large_margins(self):
        images = np.random.RandomState(0).rand(16, 8, 8, 1).astype("float32")
        models = {}
        for policy in ("float32", "mixed_float16"):
            models[policy] = keras.Sequential(
                [keras.Input((8, 8, 1)), keras.layers.Flatten(dtype=policy), keras.layers.Dense(2, dtype=policy)]
            )
        kernel = np.random.RandomState(1).randn(64, 2)
        models["float32"].set_weights([kernel, np.zeros(2)])
        logits = models["float32"](images).numpy()
        margins = np.abs(logits[:, 0] - logits[:, 1])
        labels = np.argmax(logits, axis=1)
        found = {}
        for policy, model in models.items():
            model.set_weights([kernel * 20 / np.median(margins), np.zeros(2)])
            attack = fr.attacks.FlowFrankWolfe(0.6)
            found[policy] = attack.run(images, labels, model=model, loss=testing.cross_entropy()).success.numpy()
            found[policy, "gradient"] = fr.flow_gradients(model, images, labels, testing.cross_entropy())
        self.assertGreater(found["float32"].mean(), 0.9)
        self.assertGreaterEqual(found["mixed_float16"].mean(), 0.9)
        sizes = [np.abs(found[policy, "gradient"]).max(axis=(1, 2, 3)) for policy in models]
        self.assertLess(sizes[0].min(), 1e-7)
        self.assertAllInRange(sizes[1] / sizes[0], 0.2, 5.0)  # Large logits are rounded themselves.

    def losses(self, images, labels=None):
        labels = self.labels if labels is None else labels
        return fr.ops.per_example_loss(testing.cross_entropy(), labels, self.model(images))

    @parameterized.named_parameters(*ATTACKS)
    def test_what_every_attack_promises(self, cls, options):
        attack = cls(**options)
        result = attack.run(self.images, self.labels, model=self.model)
        adversarial = attack(self.images, self.labels, model=self.model)
        self.assertAllEqual(adversarial, result.images)
        self.assertAllInRange(adversarial, 0.0, 1.0)
        if attack.epsilon is not None:
            self.assertAllLessEqual(attack.ball.norm(result.parameters), EPSILON * (1 + 1e-5))
            self.assertAllLessEqual(attack.ball.norm(result.flow), EPSILON * (1 + 1e-5))
        if cls is fr.attacks.IntensityPGD:
            self.assertAllEqual(result.flow, tf.zeros_like(result.flow))
            self.assertAllClose(adversarial, np.clip(self.images + result.parameters, 0, 1), atol=1e-6)
        else:
            self.assertAllClose(adversarial, fr.ops.dense_image_warp(self.images, result.flow), atol=1e-5)
        self.assertAllClose(result.loss, self.losses(adversarial), atol=1e-4)
        wrong = np.argmax(self.model(adversarial), axis=1) != self.labels
        self.assertAllEqual(result.success, wrong)
        self.assertAllGreaterEqual(np.where(wrong, 0, result.loss - result.clean_loss), 0)
        lengths = np.linalg.norm(result.flow, axis=-1)
        self.assertAllClose(result.displacement.largest, lengths.max(axis=(1, 2)), atol=1e-5)
        self.assertAllClose(result.displacement.median, np.median(lengths, axis=(1, 2)), atol=1e-5)

    @parameterized.named_parameters(*ATTACKS)
    def test_no_work_on_examples_that_are_fooled_already(self, cls, options):
        result = cls(**options).run(self.images, self.labels, model=self.model)
        self.assertAllEqual(result.clean_success, np.arange(len(self.labels)) < 4)
        self.assertAllEqual(result.images[:4], self.images[:4])
        self.assertAllEqual(result.queries[:4], [1] * 4)
        self.assertAllEqual(result.loss[:4], result.clean_loss[:4])
        self.assertAllGreater(result.queries[4:], 1)

    @parameterized.named_parameters(*ATTACKS)
    def test_targeted_margin(self, cls, options):
        targets = (np.argmax(self.model(self.images), axis=1) + 1) % testing.CLASSES
        result = cls(**{**options, "targeted": True, "loss": "margin"}).run(self.images, targets, model=self.model)
        self.assertAllEqual(result.success, np.argmax(self.model(result.images), axis=1) == targets)
        self.assertAllEqual(result.success, result.loss > 0)
        self.assertGreater(np.mean(result.loss - result.clean_loss), 0.01)
        self.assertFalse(any(result.clean_success))

    @parameterized.named_parameters(*((n, k, o) for n, k, o in BOUNDED if k.needs_gradient and k not in NOT_ASCENTS))
    def test_beats_random_flows(self, cls, options):
        attack = cls(epsilon=EPSILON, **options)
        best_random = tf.reduce_max(
            [
                self.losses(
                    fr.ops.dense_image_warp(self.images, attack.ball.sample([*self.images.shape[:3], 2], [s, 0]))
                )
                for s in range(10)
            ],
            axis=0,
        )
        reached = self.losses(attack(self.images, self.labels, model=self.model, stop_when_fooled=False))
        enough = 0.6 if "control_points" in options else 0.9
        self.assertGreater(np.mean(reached > best_random), enough)

    @parameterized.named_parameters(*LIGHT)
    def test_repeats_with_its_seed_and_not_with_another(self, cls, options):
        first = cls(**options)(self.images, self.labels, model=self.model)
        self.assertAllEqual(cls(**options)(self.images, self.labels, model=self.model), first)
        gradient_free = not cls.needs_gradient and options.get("candidates") != "grid"
        if getattr(cls(**options), "start", "zero") == "random" or gradient_free:
            self.assertNotAllEqual(cls(seed=1, **options)(self.images, self.labels, model=self.model), first)

    @parameterized.named_parameters(*ATTACKS)
    def test_an_examples_neighbours_do_not_matter(self, cls, options):
        attack = cls(**options)
        together = attack(self.images, self.labels, model=self.model)
        others = np.concatenate([self.images[:3], 1 - self.images[3:]])
        self.assertAllClose(attack(others, self.labels, model=self.model)[:3], together[:3], atol=1e-5)
        # Nor does how many of them are fooled before it.
        broken = np.concatenate([self.labels[:5], (self.labels[5:15] + 1) % testing.CLASSES, self.labels[15:]])
        self.assertAllClose(attack(self.images, broken, model=self.model)[15:], together[15:], atol=1e-5)
        self.assertAllClose(attack(self.images[:3], self.labels[:3], model=self.model), together[:3], atol=1e-5)

    @parameterized.parameters(
        (None, "sparse_categorical_crossentropy"), ("log_odds", fr.ops.LogOddsLoss(from_logits=False))
    )
    def test_the_loss_is_the_one_that_is_compiled_now(self, loss, expected):
        attack, model = fr.attacks.FlowPGD(EPSILON, steps=3, loss=loss), compiled_network()
        attack(self.images, self.labels, model=model)
        model.compile("sgd", "sparse_categorical_crossentropy")
        self.assertAllClose(
            attack(self.images, self.labels, model=model),
            fr.attacks.FlowPGD(EPSILON, steps=3, loss=expected)(self.images, self.labels, model=model),
        )

    def test_a_loss_in_the_call_comes_first(self):
        attack = fr.attacks.FlowPGD(EPSILON, steps=3, loss="log_odds")
        self.assertAllEqual(
            attack(self.images, self.labels, model=self.model, loss="margin"),
            attack.replace(loss="margin")(self.images, self.labels, model=self.model),
        )

    @parameterized.named_parameters(*CLASSES)
    def test_in_a_graph_and_a_column_of_labels(self, cls, options):
        attack = cls(**options)
        expected = attack(self.images, self.labels, model=self.model)
        in_a_graph = tf.function(lambda images, labels: attack(images, labels, model=self.model))
        column = self.labels[:, None].astype("int32")
        self.assertAllClose(in_a_graph(self.images, column), expected, atol=1e-5)

    @parameterized.named_parameters(*(row for row in CLASSES if row[1] in ON_ONE_HOT))
    def test_one_hot_labels(self, cls, options):
        expected = cls(**options)(self.images, self.labels, model=self.model)
        one_hot = np.eye(testing.CLASSES, dtype="float32")[self.labels]
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        on_one_hot = cls(**{**options, "loss": loss})
        self.assertAllClose(on_one_hot(self.images, one_hot, model=self.model), expected, atol=1e-5)

    def test_the_length_of_a_whole_flow_may_be_more_than_an_images_side(self):
        attack = fr.attacks.RandomFlow(12.0, norm="l2", draws=2)
        result = attack.run(self.images, self.labels, model=self.model)
        lengths = np.sqrt(np.sum(np.square(result.flow), axis=(1, 2, 3)))
        self.assertAllInRange(lengths, 0.0, 12.0 * (1 + 1e-5))
        self.assertGreater(lengths.max(), 11.0)

    def test_a_column_of_labels(self):
        attack = fr.attacks.FlowFGSM(EPSILON)
        expected = attack(self.images, self.labels, model=self.model)
        self.assertAllEqual(attack(self.images, self.labels[:, None], model=self.model), expected)

    @parameterized.named_parameters(*CLASSES)
    def test_configuration_round_trip(self, cls, options):
        attack = cls(**{**options, "loss": testing.cross_entropy(), "seed": 3})
        copy = keras.layers.deserialize(keras.layers.serialize(attack))
        self.assertIs(type(copy), cls)
        self.assertEqual(copy.get_config(), attack.get_config())
        self.assertAllEqual(*(each.loss(self.labels, self.model(self.images)) for each in (copy, attack)))
        # By the model's own loss, for which the search is compiled already.
        ours, theirs = (
            each.replace(loss=options.get("loss"))(self.images, self.labels, model=self.model)
            for each in (copy, attack)
        )
        self.assertAllEqual(ours, theirs)

    @parameterized.named_parameters(*BOUNDED)
    def test_radius(self, cls, options):
        attack = cls(epsilon=EPSILON, **options)
        nowhere = attack.replace(epsilon=0.0)
        self.assertAllClose(nowhere(self.images, self.labels, model=self.model), self.images, atol=1e-6)
        self.assertEqual(attack.replace(epsilon=0.3).get_config(), {**attack.get_config(), "epsilon": 0.3})
        with self.assertRaisesRegex(ValueError, "Expected `epsilon`.*-0.1"):
            cls(epsilon=-0.1, **options)

    @parameterized.named_parameters(*CLASSES)
    def test_bad_input(self, cls, options):
        with self.assertRaisesRegex(ValueError, "Expected `value_range`"):
            cls(**{**options, "value_range": (1.0, 0.0)})
        attack = cls(**options)

        def run(images=self.images, labels=self.labels, model=self.model):
            return attack(images, labels, model=model)

        with self.assertRaisesRegex(TypeError, "Expected `model` to be a keras.Model"):
            run(model=lambda images: images)
        with self.assertRaisesRegex(ValueError, r"Expected `images` .*\[batch, height, width, channels\]"):
            run(self.images[0], self.labels[:1])
        with self.assertRaisesRegex(ValueError, r"values from 0.0 to 1.0 \(`value_range`\).* to 25"):
            run(255 * self.images)
        with self.assertRaisesRegex(ValueError, "Expected finite images.*nan"):
            run(np.full_like(self.images, np.nan))
        with self.assertRaisesRegex(ValueError, "Expected labels from 0 to 3.* 0 to 4"):
            run(labels=np.array([4, *[0] * 23]))
        with self.assertRaisesRegex(ValueError, "Expected one label for each image. Received 24 images"):
            run(labels=self.labels[:1])
        if attack.loss is None:
            with self.assertRaisesRegex(ValueError, "Expected a loss"):
                run(model=testing.network())

    def test_log_odds_of_a_model_that_is_not_compiled(self):
        attack = fr.attacks.FlowFGSM(EPSILON, loss="log_odds")
        with self.assertRaisesRegex(ValueError, "a model that is not compiled: compile it, or give LogOddsLoss"):
            attack(self.images, self.labels, model=testing.network())

    def test_values_that_rounding_put_outside_are_clipped(self):
        images = self.images.copy()
        images[0, 0, 0, 0] = 1.0000001
        result = fr.attacks.FlowFGSM(EPSILON).run(images, self.labels, model=self.model)
        self.assertAllInRange(result.images, 0.0, 1.0)


class OptionsTest(tf.test.TestCase, parameterized.TestCase):
    """An attack holds its options and nothing else."""

    @parameterized.named_parameters(*ATTACKS)
    def test_options_from_one_declaration(self, cls, options):
        attack = cls(**options)
        self.assertEqual(set(attack.options()), set(attack.get_config()))
        for name, value in options.items():
            self.assertEqual(attack.options()[name], value)
        for name, value in attack.options().items():
            self.assertIn(f"{name}={value!r}", repr(attack))
        self.assertEmpty(attack.weights)

    @parameterized.named_parameters(*ATTACKS)
    def test_equality_and_copies(self, cls, options):
        attack = cls(**options)
        for copied in (cls(**options), copy.deepcopy(attack), pickle.loads(pickle.dumps(attack)), attack.replace()):
            self.assertEqual(copied, attack)
            self.assertEqual(hash(copied), hash(attack))
            self.assertIsNot(copied, attack)
        self.assertNotEqual(attack.replace(seed=5), attack)
        self.assertNotEqual(attack, "an attack")

    @parameterized.named_parameters(*ATTACKS)
    def test_a_misspelt_option(self, cls, options):
        with self.assertRaisesRegex(TypeError, f"Expected options of {cls.__name__}: .*value_range.* Received sede"):
            cls(**options, sede=1)
        with self.assertRaisesRegex(TypeError, "Received epsilom"):
            cls(**options).replace(epsilom=1)

    @parameterized.named_parameters(*BOUNDED)
    def test_only_the_radius_by_position(self, cls, options):
        with self.assertRaises(TypeError):
            cls(*[options.get("perturbation", EPSILON), EPSILON, 3][:3] if "perturbation" in options else (EPSILON, 3))

    def test_settings_are_plain_values(self):
        attack = fr.attacks.PGD(fr.perturbations.Flow("forward"), 0.4, loss=testing.cross_entropy(), name="mine")
        settings = attack.settings()
        self.assertEqual(json.loads(json.dumps(settings)), settings)
        self.assertEqual(settings["class"], "PGD")
        self.assertEqual(settings["perturbation"]["lattice"], "forward")
        self.assertEqual(settings["loss"], "sparse_categorical_crossentropy")
        self.assertEqual(attack.name, "mine")
        self.assertEqual(fr.attacks.FlowFGSM(0.1).name, "FlowFGSM")

    @parameterized.parameters(
        ({"seed": 0.5}, "`seed` to be a whole number"),
        ({"seed": 2**31}, "`seed` to be a whole number of 32 bits"),
        ({"targeted": "no"}, "`targeted` to be True or False"),
        ({"jit_compile": "never"}, "`jit_compile` to be True, False or 'auto'"),
        ({"value_range": 1.0}, "`value_range` to be"),
        ({"value_range": (0.0, float("nan"))}, "`value_range` to be"),
        ({"loss": "no such loss"}, "`loss` to be a Keras loss"),
        ({"steps": 2.5}, "`steps` to be a whole number"),
        ({"steps": True}, "`steps` to be a whole number"),
        ({"epsilon": 10**400}, "`epsilon` to be a finite number"),
        ({"epsilon": None}, "`epsilon` to be a finite number"),
        ({"epsilon": "0.1"}, "`epsilon` to be a finite number"),
        ({"norm": "l7"}, "`norm` to be one of 'linf'"),
        ({"start": True}, "`start` to be one of 'random', 'zero'"),
        ({"restarts": 2, "start": "zero"}, "`start='random'` for several restarts"),
    )
    def test_values_out_of_range(self, options, message):
        with self.assertRaisesRegex(ValueError, message):
            fr.attacks.FlowPGD(**{"epsilon": EPSILON, **options})


class OwnAttackTest(tf.test.TestCase):
    def test_options_that_it_decides_itself(self):
        class Fixed(fr.attacks.RandomFlow):
            def __init__(self, epsilon):
                super().__init__(epsilon, draws=2, loss="margin")

        images, labels = testing.data(4)
        attack = Fixed(EPSILON)
        result = attack.run(images, labels, model=shared_network())
        self.assertAllClose(result.loss, fr.ops.MarginLoss().call(labels, shared_network()(result.images)), atol=1e-5)
        self.assertEqual(attack.settings(), {"class": "Fixed", "epsilon": EPSILON})
        self.assertEqual(Fixed.from_config(attack.get_config()), attack)

    def test_options_of_the_class_above_it(self):
        class Tripled(fr.attacks.FlowPGD):
            def __init__(self, epsilon, times=3, **options):
                super().__init__(epsilon, **options)
                self.times = times

        attack = Tripled(EPSILON, seed=4, steps=7)
        self.assertEqual(
            attack.options(), {**fr.attacks.FlowPGD(EPSILON, seed=4, steps=7, name="Tripled").options(), "times": 3}
        )
        changed = attack.replace(times=2, norm="l2")
        self.assertEqual((changed.times, changed.norm, changed.seed, changed.steps), (2, "l2", 4, 7))
        with self.assertRaisesRegex(TypeError, "Expected options of Tripled: epsilon, times, steps.* Received sede"):
            Tripled(EPSILON, sede=1)


class TableTest(tf.test.TestCase):
    def test_every_attack_is_in_the_table(self):
        classes = {getattr(fr.attacks, name) for name in fr.attacks.__all__}
        attacks = {cls for cls in classes if issubclass(cls, keras.layers.Layer) and cls is not fr.attacks.Attack}
        self.assertEqual({cls for _, cls, _ in ATTACKS}, attacks)


if __name__ == "__main__":
    tf.test.main()

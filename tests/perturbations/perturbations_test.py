"""Contract tests that every perturbation passes; a new one is tested by adding a row."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import perturbations
from keras_flowreg.perturbations import TapeLinearized
from tests import oracle

PERTURBATIONS = (
    ("flow_forward", perturbations.Flow("forward")),
    ("flow_backward", perturbations.Flow("backward")),
    ("flow_central", perturbations.Flow("central")),
    ("flow_auto", perturbations.Flow("central", implementation="auto")),
    ("additive", perturbations.Additive()),
    ("affine", perturbations.Affine()),
    ("affine_forward", perturbations.Affine("forward")),
    ("smooth_grid", perturbations.SmoothFlow(control_points=3)),
    ("smooth_gaussian", perturbations.SmoothFlow(smoothing=0.8)),
    ("tape", TapeLinearized(perturbations.Flow("backward"))),
)


def images(dtype="float32"):
    return tf.constant(np.random.RandomState(0).rand(2, 6, 5, 3), dtype)


class PerturbationContractTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*PERTURBATIONS)
    def test_identity_is_exact(self, perturbation):
        x = images()
        identity = perturbation.identity(x)
        self.assertAllEqual(identity, tf.zeros_like(identity))
        # TensorFlow Addons rounds in its last row and column, where it weighs the neighbour with 1.
        tolerance = 1e-6 if getattr(perturbation, "implementation", "native") == "auto" else 0
        self.assertAllClose(perturbation.apply(x, identity), x, rtol=0, atol=tolerance)
        self.assertAllClose(perturbation.linearize(x, identity)[0], x, rtol=0, atol=tolerance)
        self.assertAllEqual(perturbation.linearize_at_identity(x)[0], x)

    @parameterized.named_parameters(*PERTURBATIONS)
    def test_closed_form_and_tape_agree(self, perturbation):
        x = images()
        upstream = tf.random.stateless_normal(x.shape, [1, 1])
        for parameters in (perturbation.identity(x), perturbation.random_start(x, 0.3, [2, 2])):
            perturbed, pull_back = perturbation.linearize(x, parameters)
            self.assertAllClose(perturbed, perturbation.apply(x, parameters), atol=1e-5)
            self.assertAllClose(
                pull_back(upstream), TapeLinearized(perturbation).pullback(x, parameters, upstream), atol=1e-4
            )
        self.assertAllClose(
            perturbation.linearize_at_identity(x)[1](upstream),
            perturbation.pullback(x, perturbation.identity(x), upstream),
            atol=1e-5,
        )

    @parameterized.named_parameters(*PERTURBATIONS)
    def test_pullback_is_the_derivative(self, perturbation):
        x = images("float64")
        upstream = tf.random.stateless_normal(x.shape, [1, 1], dtype=tf.float64)
        parameters = perturbation.random_start(x, 0.3, [2, 2])
        direction = perturbation.random_start(x, 1.0, [3, 3])

        def loss(step):
            return tf.reduce_sum(upstream * perturbation.apply(x, parameters + step * direction))

        measured = (loss(1e-6) - loss(-1e-6)) / 2e-6
        gradient = perturbation.pullback(x, parameters, upstream)
        self.assertAllClose(tf.reduce_sum(gradient * direction), measured, rtol=1e-5)

    @parameterized.named_parameters(*PERTURBATIONS)
    def test_pullback_is_linear_and_differentiable(self, perturbation):
        x = images()
        upstream = tf.random.stateless_normal(x.shape, [1, 1])
        _, pull_back = perturbation.linearize(x, perturbation.random_start(x, 0.3, [2, 2]))
        with tf.GradientTape() as tape:
            tape.watch(upstream)
            gradient = pull_back(upstream)
            square = tf.reduce_sum(gradient**2)
        # For a linear A, the derivative of |A u|² along u is 2 |A u|².
        along = tf.reduce_sum(tape.gradient(square, upstream) * upstream)
        self.assertAllClose(along, 2 * square, rtol=1e-4)
        self.assertAllClose(pull_back(3 * upstream), 3 * gradient, rtol=1e-4, atol=1e-5)

    @parameterized.named_parameters(*PERTURBATIONS)
    def test_random_start_has_its_spread_and_seed(self, perturbation):
        x = tf.zeros([400, 6, 5, 3])
        start = perturbation.random_start(x, 0.3, [4, 4])
        self.assertAllEqual(tf.shape(start), perturbation.parameter_shape(x))
        self.assertAllClose(tf.math.reduce_std(start), 0.3, rtol=0.05)
        self.assertAllEqual(start, perturbation.random_start(x, 0.3, [4, 4]))
        self.assertNotAllEqual(start, perturbation.random_start(x, 0.3, [4, 5]))

    @parameterized.named_parameters(*PERTURBATIONS)
    def test_serialization(self, perturbation):
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(perturbation))
        self.assertEqual(copy, perturbation)
        self.assertEqual(copy.get_config(), perturbation.get_config())

    @parameterized.named_parameters(*PERTURBATIONS)
    def test_xla_and_unknown_batch(self, perturbation):
        x = images()
        parameters = perturbation.random_start(x, 0.3, [2, 2])
        spec = [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in (x, parameters, x)]
        compiled = tf.function(perturbation.pullback, spec, jit_compile=True)
        self.assertAllClose(compiled(x, parameters, x), perturbation.pullback(x, parameters, x), atol=1e-4)


class FlowTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("forward", "backward", "central")
    def test_pullback_is_the_oracles(self, lattice):
        x = images()
        flow = np.random.RandomState(3).randint(-2, 3, [2, 6, 5, 2]).astype("float32")
        flow[:, ::2] += 0.3
        upstream = np.random.RandomState(4).randn(*x.shape).astype("float32")
        gradient = perturbations.Flow(lattice).pullback(x, flow, upstream)
        self.assertAllClose(gradient, oracle.flow_gradients(x.numpy(), flow, upstream, lattice), atol=1e-5)

    def test_two_sided_stands_for_both_sides(self):
        sides = perturbations.Flow("two_sided").sides
        self.assertEqual([side.lattice for side in sides], ["forward", "backward"])
        self.assertLen(perturbations.Flow("central").sides, 1)

    def test_bad_options(self):
        with self.assertRaisesRegex(ValueError, "Expected `lattice`"):
            perturbations.Flow("sideways")
        with self.assertRaisesRegex(ValueError, "Expected `implementation`"):
            perturbations.Flow("central", "fast")


class Masked(perturbations.Flow):
    """A flow of a part of the image, which its configuration does not say."""

    def __init__(self, mask):
        super().__init__()
        self.mask = tf.constant(mask, tf.float32)[tf.newaxis, ..., tf.newaxis]

    def apply(self, images, parameters):
        return super().apply(images, self.mask * parameters)

    def linearize(self, images, parameters):
        return perturbations.Perturbation.linearize(self, images, parameters)

    def linearize_at_identity(self, images):
        return self.linearize(images, self.identity(images))


class ConfiguredMask(Masked):
    def get_config(self):
        return {"mask": self.mask.numpy()}


class EqualityTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(Masked, ConfiguredMask)
    def test_what_differs_in_a_large_array_is_searched_on_its_own(self, kind):
        masks = [np.zeros([40, 40]), np.zeros([40, 40])]
        masks[0][5:15, 5:15], masks[1][25:35, 25:35] = 1, 1
        first, second = map(kind, masks)
        self.assertNotEqual(first, second)
        self.assertEqual(first, first)
        images = np.random.RandomState(0).rand(1, 40, 40, 1).astype("float32")
        model = keras.Sequential([keras.Input([40, 40, 1]), keras.layers.Flatten(), keras.layers.Dense(2)])
        options = {"model": model, "loss": "margin", "stop_when_fooled": False}
        for perturbation, mask in ((first, masks[0]), (second, masks[1])):
            found = fr.attacks.PGD(perturbation, 0.5, steps=2).run(images, [0], **options).images
            moved = np.abs(found - images)[0, ..., 0] > 0
            self.assertGreater(np.sum(moved), 50)
            self.assertEqual(np.sum(moved & (mask == 0)), 0)

    def test_what_the_configuration_does_not_say(self):
        class Scaled(perturbations.Perturbation):
            """Keeps what it is given without an `__init__`."""

        first, second = Scaled(), Scaled()
        first.scale, second.scale = 1, 2
        self.assertNotEqual(first, second)

    def test_values_that_are_made_anew(self):
        class Chosen(perturbations.Additive):
            def __init__(self, places):
                super().__init__()
                self.places = places

            def get_config(self):
                return {"places": frozenset(self.places)}

        self.assertNotEqual(Chosen([1]), Chosen([2]))
        self.assertEqual(Chosen([1]), Chosen([1]))

        class Variable(Chosen):
            def get_config(self):
                return {"places": self.places}

        variable = Variable(tf.Variable(1.0))
        hashed = tf.function(lambda: hash(variable) and tf.constant(1.0))
        self.assertEqual(hashed(), 1.0)

    def test_equal_arrays_are_equal(self):
        mask = np.random.RandomState(0).rand(40, 40)
        self.assertEqual(ConfiguredMask(mask), ConfiguredMask(mask.copy()))
        self.assertEqual(hash(ConfiguredMask(mask)), hash(ConfiguredMask(mask.copy())))


class AffineTest(tf.test.TestCase):
    def apply(self, x, *parameters):
        return perturbations.Affine().apply(x, tf.constant([parameters], x.dtype))

    def test_quarter_turn_is_counter_clockwise(self):
        x = np.random.RandomState(0).rand(1, 5, 5, 2).astype("float32")
        self.assertAllClose(self.apply(x, 90, 0, 0, 0), np.rot90(x, axes=(1, 2)), atol=1e-5)

    def test_translation_moves_down_and_right(self):
        x = np.random.RandomState(0).rand(1, 5, 6, 2).astype("float32")
        self.assertAllClose(self.apply(x, 0, 2, 1, 0)[:, 2:, 1:], x[:, :-2, :-1], atol=1e-6)

    def test_growth_enlarges_about_the_centre(self):
        ramp = np.tile(np.arange(9, dtype="float32")[None, None, :, None], [1, 9, 1, 1])
        self.assertAllClose(self.apply(ramp, 0, 0, 0, 1)[0, 0, :, 0], 4 + (np.arange(9) - 4) / 2, atol=1e-5)

    def test_outside_is_the_edge_pixel_and_not_black(self):
        white = tf.ones([1, 8, 8, 1])
        self.assertAllClose(self.apply(white, 30, 3, -3, -0.4), white)

    def test_two_sided(self):
        self.assertLen(perturbations.Affine("two_sided").sides, 2)


if __name__ == "__main__":
    tf.test.main()

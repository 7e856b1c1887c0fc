"""Tests of gradients and penalties against closed forms and finite differences."""

import unittest

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from tests import oracle, testing

HEIGHT, WIDTH, CLASSES = 4, 6, 3
RULES = ("forward", "backward", "central")


def batch(channels, size=5, dtype="float32"):
    random = np.random.RandomState(1)
    images = random.rand(size, HEIGHT, WIDTH, channels).astype(dtype)
    flow = random.uniform(-1.5, 1.5, [size, HEIGHT, WIDTH, 2])
    flow[:, ::2] = np.round(flow[:, ::2])  # kinks
    return images, random.randint(0, CLASSES, size), flow.astype(dtype)


def linear_model(channels, dtype="float32"):
    """Logits = W·image, and W as `[height, width, channels, classes]`."""
    model = keras.Sequential(
        [
            keras.layers.Input([HEIGHT, WIDTH, channels]),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES, use_bias=False, dtype=dtype),
        ]
    )
    weights = np.random.RandomState(2).randn(HEIGHT * WIDTH * channels, CLASSES).astype(dtype)
    model.set_weights([weights])
    return model, weights.reshape(HEIGHT, WIDTH, channels, CLASSES)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def linear_input_gradients(weights, images, labels):
    """Cross-entropy of softmax(W·x): its gradient is W (p - onehot(y))."""
    probabilities = softmax(np.einsum("bijc,ijck->bk", images, weights))
    return np.einsum("ijck,bk->bijc", weights, probabilities - np.eye(CLASSES)[labels])


def cross_entropy(**options):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def smooth_model(dtype="float64"):
    """A small smooth network, so that finite differences converge."""
    return keras.Sequential(
        [
            keras.layers.Input([HEIGHT, WIDTH, 2], dtype=dtype),
            keras.layers.Conv2D(4, 3, activation="tanh", dtype=dtype),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Dense(CLASSES, dtype=dtype),
        ]
    )


class GradientsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(channels=[1, 3], lattice=RULES, gradient=["analytic", "tape"], at_zero=[True, False])
    def test_flow_gradients_of_a_linear_model(self, channels, lattice, gradient, at_zero):
        model, weights = linear_model(channels)
        images, labels, flow = batch(channels)
        if at_zero:
            flow = np.zeros_like(flow)
        measured = fr.flow_gradients(
            model,
            images,
            labels,
            cross_entropy(),
            flow=None if at_zero else flow,
            lattice=lattice,
            gradient=gradient,
        )
        upstream = linear_input_gradients(weights, oracle.warp(images, flow), labels)
        self.assertAllClose(measured, oracle.flow_gradients(images, flow, upstream, lattice), rtol=1e-5, atol=1e-5)

    def test_two_sided_gradients_are_both_one_sided_ones(self):
        model, _ = linear_model(3)
        images, labels, _ = batch(3)
        both = fr.flow_gradients(model, images, labels, cross_entropy(), lattice="two_sided")
        for side, lattice in zip(both, ("forward", "backward")):
            expected = fr.flow_gradients(model, images, labels, cross_entropy(), lattice=lattice)
            self.assertAllClose(side, expected, atol=1e-6)

    def test_input_gradients_of_a_linear_model(self):
        model, weights = linear_model(3)
        images, labels, _ = batch(3)
        expected = linear_input_gradients(weights, images, labels)
        self.assertAllClose(fr.input_gradients(model, images, labels, cross_entropy()), expected, atol=1e-5)
        model.compile(loss=cross_entropy())
        self.assertAllClose(fr.input_gradients(model, images, labels), expected, atol=1e-5)

    def test_gradient_is_the_slope_of_the_loss_along_a_flow(self):
        model = smooth_model()
        images, labels, flow = batch(2, dtype="float64")
        flow = np.floor(flow) + 0.4
        direction = np.random.RandomState(5).randn(*flow.shape)
        loss = cross_entropy()

        def losses(step):
            logits = model(fr.ops.dense_image_warp(images, flow + step * direction))
            return fr.ops.per_example_loss(loss, labels, logits)

        gradients = fr.flow_gradients(model, images, labels, loss, flow=flow)
        self.assertEqual(gradients.dtype, tf.float64)
        measured = (losses(1e-6) - losses(-1e-6)) / 2e-6
        self.assertAllClose(tf.reduce_sum(gradients * direction, axis=[1, 2, 3]), measured, rtol=1e-5)

    def test_integer_images_are_cast_and_not_scaled(self):
        model, _ = linear_model(1)
        images, labels, _ = batch(1)
        integers = (255 * images).astype("uint8")
        self.assertAllClose(
            fr.flow_gradients(model, integers, labels, cross_entropy()),
            fr.flow_gradients(model, integers.astype("float32"), labels, cross_entropy()),
        )

    def test_bad_input(self):
        model, _ = linear_model(1)
        images, labels, flow = batch(1)
        with self.assertRaisesRegex(ValueError, r"Expected `images` .*\(4, 6, 1\)"):
            fr.flow_gradients(model, images[0], labels, "mse")
        with self.assertRaisesRegex(ValueError, "Expected `flow`"):
            fr.flow_gradients(model, images, labels, cross_entropy(), flow=flow[..., :1])
        with self.assertRaisesRegex(ValueError, "Expected a loss"):
            fr.flow_gradients(model, images, labels)
        with self.assertRaisesRegex(ValueError, "Expected `gradient`"):
            fr.flow_gradients(model, images, labels, cross_entropy(), gradient="exact")
        blind = keras.Sequential([keras.layers.Input([4, 6, 1]), keras.layers.Lambda(lambda x: tf.zeros([5, 3]))])
        with self.assertRaisesRegex(ValueError, "differentiable with respect to its images"):
            fr.flow_gradients(blind, images, labels, cross_entropy())


class PenaltyTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        channels=[1, 3],
        lattice=[*RULES, "two_sided"],
        gradient_norm=["squared_l2", "l2", "l1"],
        gradient=["analytic", "tape"],
    )
    def test_penalty_of_a_linear_model(self, channels, lattice, gradient_norm, gradient):
        model, weights = linear_model(channels)
        images, labels, _ = batch(channels)
        regularizer = fr.FlowGradientRegularizer(1.0, lattice=lattice, gradient_norm=gradient_norm, gradient=gradient)
        predictions, penalty = regularizer(model, images, labels, cross_entropy())
        upstream = linear_input_gradients(weights, images, labels)
        zero = np.zeros([*images.shape[:3], 2])
        norms = {
            "squared_l2": lambda g: np.sum(g**2, axis=(1, 2, 3)),
            "l2": lambda g: np.sqrt(np.sum(g**2, axis=(1, 2, 3))),
            "l1": lambda g: np.sum(np.abs(g), axis=(1, 2, 3)),
        }
        sides = ("forward", "backward") if lattice == "two_sided" else (lattice,)
        per_example = np.mean(
            [norms[gradient_norm](oracle.flow_gradients(images, zero, upstream, side)) for side in sides], axis=0
        )
        self.assertAllClose(penalty, per_example.mean(), rtol=1e-5)
        self.assertAllClose(predictions, np.einsum("bijc,ijck->bk", images, weights), rtol=1e-5)

    @parameterized.parameters("start", "identity")
    def test_penalty_at_a_random_start(self, gradient_at):
        model, weights = linear_model(3)
        images, labels, _ = batch(3)
        regularizer = fr.FlowGradientRegularizer(1.0, random_start=0.5, gradient_at=gradient_at, lattice="forward")
        predictions, penalty = regularizer(model, images, labels, cross_entropy(), seed=[3, 4])
        start = regularizer.perturbation.random_start(tf.constant(images), 0.5, [3, 4]).numpy()
        started = oracle.warp(images, start)
        upstream = linear_input_gradients(weights, started, labels)
        at = (images, start) if gradient_at == "start" else (started, np.zeros_like(start))
        gradients = oracle.flow_gradients(*at, upstream, "forward")
        self.assertAllClose(penalty, np.mean(np.sum(gradients**2, axis=(1, 2, 3))), rtol=1e-4)
        self.assertAllClose(predictions, np.einsum("bijc,ijck->bk", started, weights), rtol=1e-4, atol=1e-5)

    def test_input_gradient_penalty(self):
        model, weights = linear_model(3)
        images, labels, _ = batch(3)
        _, penalty = fr.InputGradientRegularizer(1.0)(model, images, labels, cross_entropy())
        gradients = linear_input_gradients(weights, images, labels)
        self.assertAllClose(penalty, np.mean(np.sum(gradients**2, axis=(1, 2, 3))), rtol=1e-5)

    @parameterized.parameters("log_odds", fr.ops.LogOddsLoss(from_logits=True))
    def test_penalty_on_the_log_odds_of_a_linear_model(self, loss):
        model, weights = linear_model(3, "float64")
        images, labels, _ = batch(3, dtype="float64")
        regularizer = fr.FlowGradientRegularizer(1.0, loss=loss, lattice="forward")
        predictions, penalty = regularizer(model, images, labels, cross_entropy())
        # The gradient of the cross-entropy, without its factor 1 - p.
        unsure = 1 - softmax(predictions.numpy())[np.arange(len(labels)), labels]
        upstream = linear_input_gradients(weights, images, labels) / unsure[:, None, None, None]
        gradients = oracle.flow_gradients(images, np.zeros([*images.shape[:3], 2]), upstream, "forward")
        self.assertAllClose(penalty, np.mean(np.sum(gradients**2, axis=(1, 2, 3))), rtol=1e-4)

    def test_a_loss_of_its_own_needs_no_other(self):
        images, labels, _ = batch(2)
        _, penalty = fr.FlowGradientRegularizer(1.0, loss="margin")(smooth_model("float32"), images, labels)
        self.assertGreater(penalty, 0.0)

    @parameterized.product(
        lattice=[*RULES, "two_sided"], gradient_norm=["squared_l2", "l2", "l1"], gradient=["analytic", "tape"]
    )
    def test_weight_gradient_agrees_with_finite_differences(self, lattice, gradient_norm, gradient):
        model = smooth_model()
        images, labels, _ = batch(2, dtype="float64")
        regularizer = fr.FlowGradientRegularizer(
            1.0, lattice=lattice, gradient_norm=gradient_norm, gradient=gradient, random_start=0.2
        )
        self.assert_weight_gradient_is_right(model, regularizer, images, labels)

    @parameterized.parameters("exact", "finite_difference")
    def test_weight_gradient_of_the_penalty_on_the_log_odds(self, method):
        images, labels, _ = batch(2, dtype="float64")
        regularizer = fr.FlowGradientRegularizer(1.0, loss="log_odds", random_start=0.2, method=method, step=1e-6)
        self.assert_weight_gradient_is_right(
            smooth_model(), regularizer, images, labels, rtol=1e-5 if method == "exact" else 1e-3
        )

    @parameterized.parameters(fr.perturbations.Affine(), fr.perturbations.Additive())
    def test_weight_gradient_for_other_perturbations(self, perturbation):
        images, labels, _ = batch(2, dtype="float64")
        regularizer = fr.GradientRegularizer(perturbation, 1.0, random_start=0.2)
        self.assert_weight_gradient_is_right(smooth_model(), regularizer, images, labels)

    @parameterized.parameters("squared_l2", "l2", "l1")
    def test_finite_difference_method_follows_the_exact_one(self, norm):
        model = smooth_model()
        images, labels, _ = batch(2, dtype="float64")

        def penalty_and_gradients(**method):
            regularizer = fr.FlowGradientRegularizer(
                1.0, lattice="central", gradient_norm=norm, random_start=0.2, **method
            )
            with tf.GradientTape() as tape:
                _, penalty = regularizer(model, images, labels, cross_entropy(), seed=[1, 2])
            gradients = tape.gradient(penalty, model.trainable_variables, unconnected_gradients="zero")
            return penalty, np.concatenate([np.ravel(g) for g in gradients])

        penalty, exact = penalty_and_gradients()
        same_penalty, difference = penalty_and_gradients(method="finite_difference", step=1e-6)
        self.assertAllClose(same_penalty, penalty)
        self.assertAllClose(difference, exact, rtol=1e-3, atol=1e-5)

    def test_finite_difference_on_the_lattice_is_the_slope_of_the_side_that_it_steps_to(self):
        model = smooth_model()
        images, labels, _ = batch(2, dtype="float64")
        direction = 2 * fr.flow_gradients(model, images, labels, cross_entropy())
        regularizer = fr.FlowGradientRegularizer(1.0, lattice="central", method="finite_difference", step=1e-6)
        with tf.GradientTape(persistent=True) as tape:
            _, penalty = regularizer(model, images, labels, cross_entropy())
            # A little along the direction, off the lattice, there is only that side.
            side = fr.flow_gradients(model, images, labels, cross_entropy(), flow=1e-9 * direction)
            slope = tf.reduce_sum(side * direction) / len(images)
        for ours, expected in zip(
            tape.gradient(penalty, model.trainable_variables[:3]), tape.gradient(slope, model.trainable_variables[:3])
        ):
            self.assertAllClose(ours, expected, rtol=1e-3, atol=1e-5)

    def test_finite_difference_of_an_additive_perturbation(self):
        model = smooth_model()
        images, labels, _ = batch(2, dtype="float64")
        regularizer = fr.InputGradientRegularizer(1.0, method="finite_difference", step=1e-6)
        self.assert_weight_gradient_is_right(model, regularizer, images, labels, rtol=1e-4)

    def assert_weight_gradient_is_right(self, model, regularizer, images, labels, rtol=1e-5):
        variables = [tf.convert_to_tensor(v) for v in model.trainable_variables]
        directions = [np.random.RandomState(6).randn(*v.shape) for v in variables]

        def penalty():
            return regularizer(model, images, labels, cross_entropy(), seed=[1, 2])[1]

        def penalty_at(step):
            model.set_weights([value.numpy() + step * d for value, d in zip(variables, directions)])
            return penalty()

        measured = (penalty_at(1e-5) - penalty_at(-1e-5)) / 2e-5
        model.set_weights([value.numpy() for value in variables])
        with tf.GradientTape() as tape:
            value = penalty()
        self.assertEqual(value.dtype, tf.float64)
        gradients = tape.gradient(value, model.trainable_variables, unconnected_gradients="zero")
        slope = sum(tf.reduce_sum(g * d) for g, d in zip(gradients, directions))
        self.assertGreater(abs(slope), 1e-6)
        self.assertAllClose(slope, measured, rtol=rtol)

    def test_penalty_is_the_mean_over_examples_whatever_the_batch(self):
        model, _ = linear_model(3)
        images, labels, _ = batch(3, size=6)
        regularizer = fr.FlowGradientRegularizer(1.0)

        def penalty(part, reduction):
            return regularizer(model, images[part], labels[part], cross_entropy(reduction=reduction))[1]

        whole = penalty(slice(None), "sum_over_batch_size")
        for reduction in ("sum", "none", "sum_over_batch_size"):
            parts = [penalty(slice(start, start + 2), reduction) for start in (0, 2, 4)]
            self.assertAllClose(tf.reduce_mean(parts), whole, rtol=1e-5)

    @unittest.skipUnless(compat.KERAS_3, "Keras 2 has no such reduction.")
    def test_weights_are_divided_by_as_the_loss_that_is_trained_does(self):
        model, _ = linear_model(3)
        images, labels, _ = batch(3, size=6)
        weights = np.array([3.0, 1.0, 2.0, 0.0, 4.0, 5.0], "float32")

        def penalty(reduction, weights):
            loss = cross_entropy(reduction=reduction)
            return fr.FlowGradientRegularizer(1.0)(model, images, labels, loss, sample_weight=weights)[1]

        by_number = penalty("sum_over_batch_size", weights)
        self.assertAllClose(penalty("mean_with_sample_weight", weights), by_number * 6 / 15, rtol=1e-5)

    def test_no_examples_have_no_penalty(self):
        model, _ = linear_model(3)
        images, labels, _ = batch(3, size=2)
        for regularizer in (fr.FlowGradientRegularizer(1.0), fr.InputGradientRegularizer(1.0)):
            _, penalty = regularizer(model, images[:0], labels[:0], cross_entropy(), training=False)
            self.assertAllEqual(penalty, 0.0)

    def test_sample_weight_multiplies_each_examples_penalty(self):
        model, _ = linear_model(1)
        images, labels, _ = batch(1, size=4)
        regularizer = fr.FlowGradientRegularizer(1.0)
        singles = [regularizer(model, images[i : i + 1], labels[i : i + 1], cross_entropy())[1] for i in range(4)]
        weights = np.array([0.0, 1.0, 2.0, 0.5], "float32")
        _, weighted = regularizer(model, images, labels, cross_entropy(), sample_weight=weights)
        self.assertAllClose(weighted, np.mean(weights * singles), rtol=1e-5)

    def test_random_start_is_for_training_only(self):
        model, _ = linear_model(1)
        images, labels, _ = batch(1)
        regularizer = fr.FlowGradientRegularizer(1.0, random_start=0.5, lattice="forward")

        def penalty(**options):
            return regularizer(model, images, labels, cross_entropy(), **options)[1]

        at_zero = fr.FlowGradientRegularizer(1.0, lattice="forward")(model, images, labels, cross_entropy())[1]
        self.assertAllEqual(penalty(training=False), at_zero)
        self.assertAllClose(penalty(start_scale=0.0), at_zero, rtol=1e-5)
        self.assertAllEqual(penalty(seed=[1, 2]), penalty(seed=[1, 2]))
        self.assertNotAllEqual(penalty(), penalty())

    @parameterized.parameters("exact", "finite_difference")
    def test_inference_mode_is_the_gradient_that_an_attacker_meets(self, method):
        images, labels, _ = batch(2)
        model = smooth_model("float32")
        model = keras.Sequential(
            [*model.layers[:1], keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), *model.layers[1:]]
        )
        model.build(images.shape)
        before = model.layers[1].moving_mean.numpy()
        regularizer = fr.FlowGradientRegularizer(1.0, lattice="forward", model_mode="inference", method=method)
        with tf.GradientTape() as tape:
            predictions, penalty = regularizer(model, images, labels, cross_entropy(), training=True)
        # The statistics of before the step, and no dropout; the predictions, and the statistics after it, are a training step's.
        self.assertNotAllClose(model.layers[1].moving_mean, before)
        self.assertNotAllClose(predictions, model(images), atol=1e-3)
        self.assertIsNotNone(tape.gradient(penalty, model.trainable_variables[0]))
        model.layers[1].moving_mean.assign(before)
        model.layers[1].moving_variance.assign(np.ones_like(before))
        _, expected = regularizer(model, images, labels, cross_entropy(), training=False)
        self.assertAllClose(penalty, expected, rtol=1e-4)

    def test_half_precision_squares_do_not_underflow(self):
        policy = "mixed_float16"
        model = keras.Sequential(
            [
                keras.layers.Input([HEIGHT, WIDTH, 1]),
                keras.layers.Flatten(dtype=policy),
                keras.layers.Dense(CLASSES, use_bias=False, dtype=policy),
            ]
        )
        reference, _ = linear_model(1)
        weights = 1e-3 * reference.get_weights()[0]  # gradients near 1e-4, squares near 1e-8
        model.set_weights([weights])
        reference.set_weights([weights])
        images, labels, _ = batch(1)
        regularizer = fr.FlowGradientRegularizer(1.0)
        _, half = regularizer(model, images, labels, cross_entropy())
        _, full = regularizer(reference, images, labels, cross_entropy())
        self.assertEqual(half.dtype, tf.float32)
        self.assertAllClose(half, full, rtol=1e-2)

    @parameterized.parameters(
        fr.FlowGradientRegularizer(
            2.0, random_start=0.1, lattice="backward", gradient_norm="l1", gradient_at="identity"
        ),
        fr.InputGradientRegularizer(0.5, gradient_norm="l2", gradient="tape", loss="log_odds"),
        fr.FlowGradientRegularizer(2.0, loss=fr.ops.LogOddsLoss(from_logits=True)),
        fr.GradientRegularizer(fr.perturbations.Affine("forward"), 3.0),
    )
    def test_serialization(self, regularizer):
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(regularizer))
        self.assertIs(type(copy), type(regularizer))
        self.assertEqual(copy.get_config(), regularizer.get_config())

    def test_bad_options(self):
        for weight in (-1.0, float("nan"), "strong", None):
            with self.assertRaisesRegex(ValueError, "Expected `weight`"):
                fr.FlowGradientRegularizer(weight)
        with self.assertRaisesRegex(ValueError, "Expected `random_start`.*-0.1"):
            fr.FlowGradientRegularizer(1.0, random_start=-0.1)
        for option in ("lattice", "gradient_norm", "gradient", "gradient_at", "implementation", "method", "model_mode"):
            with self.assertRaisesRegex(ValueError, f"Expected `{option}` to be one of .* Received 'other'"):
                fr.FlowGradientRegularizer(1.0, **{option: "other"})
        with self.assertRaisesRegex(ValueError, "other"):
            fr.FlowGradientRegularizer(1.0, loss="other")
        with self.assertRaisesRegex(ValueError, "Expected `step` to be more than 0"):
            fr.FlowGradientRegularizer(1.0, method="finite_difference", step=0)
        with self.assertRaisesRegex(TypeError, "Expected `perturbation`"):
            fr.GradientRegularizer("flow", 1.0)


class FractionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0.25, 4), (0.5, 8), (0.01, 1), (1.0, 16))
    def test_penalty_of_the_first_part(self, fraction, count):
        images, labels = testing.data(16)
        model, loss = testing.network(), testing.cross_entropy()
        weights = np.arange(16, dtype="float32")
        predictions, penalty = fr.FlowGradientRegularizer(1.0, fraction=fraction)(
            model, images, labels, loss, sample_weight=weights
        )
        whole = fr.FlowGradientRegularizer(1.0)
        _, expected = whole(model, images[:count], labels[:count], loss, sample_weight=weights[:count])
        self.assertAllClose(penalty, expected)
        self.assertAllClose(predictions, model(images), atol=1e-6)
        # Outside training it is that of all.
        _, measured = fr.FlowGradientRegularizer(1.0, fraction=fraction)(model, images, labels, loss, training=False)
        self.assertAllClose(measured, whole(model, images, labels, loss, training=False)[1])

    def test_a_batch_of_one_has_no_rest(self):
        images, labels = testing.data(1)
        model = testing.network(keras.layers.BatchNormalization())
        regularizer = fr.FlowGradientRegularizer(1.0, fraction=0.5)
        predictions, penalty = regularizer(model, images, labels, testing.cross_entropy())
        self.assertEqual(predictions.shape, (1, testing.CLASSES))
        self.assertGreater(penalty, 0)
        for weight in model.get_weights():
            self.assertAllEqual(np.isfinite(weight), np.ones_like(weight, bool))

    def test_no_examples_change_no_variables(self):
        images, labels = testing.data(4)
        network = keras.Sequential(
            [keras.Input(testing.SHAPE), keras.layers.Flatten(), keras.layers.Dense(testing.CLASSES)]
        )
        model = fr.FlowRegularizedModel(network, fr.FlowGradientRegularizer(1.0, fraction=0.5))
        model.compile("sgd", testing.cross_entropy(), metrics=["accuracy"])
        model.fit(images, labels, verbose=0)
        before = [variable.numpy() for variable in model.variables]
        model.regularizer(model, images[:0], labels[:0])
        self.assertAllEqual([np.isnan(variable.numpy()).any() for variable in model.variables], [False] * len(before))

    def test_bad_options(self):
        for options, message in (
            ({"fraction": 0}, "Expected `fraction`.*0"),
            ({"fraction": 1.5}, "Expected `fraction` to be at most 1. Received 1.5"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                fr.FlowGradientRegularizer(1.0, **options)


if __name__ == "__main__":
    tf.test.main()

"""Tests of the penalty on changed predictions: the worst flow and the divergence by hand, and the derivative in NumPy."""

import itertools
import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from tests import oracle, testing

SIZE, EPSILON = 6, 0.4
IMAGES, LABELS = testing.data(SIZE)


def linear(dtype="float32", activation=None):
    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense(testing.CLASSES, activation=activation, dtype=dtype)
    return keras.Sequential([keras.layers.Input(testing.SHAPE), keras.layers.Flatten(dtype=dtype), dense])


def log_softmax(logits):
    logits = np.float64(logits) - np.max(logits, axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def kl(logits, logits_after):
    before, after = log_softmax(logits), log_softmax(logits_after)
    return np.sum(np.exp(before) * (before - after), axis=1)


def worst_images(upstream, epsilon, part=1.0):
    """What the flow makes of the images that is worst for a gradient: of nine displacements, the best for each pixel."""
    flows = [np.full([*IMAGES.shape[:3], 2], d) for d in itertools.product([0.0, -epsilon, epsilon], repeat=2)]
    gains = np.stack([np.sum(oracle.warp(IMAGES, flow) * upstream, axis=-1) for flow in flows])
    chosen = np.argmax(gains, axis=0)
    return oracle.warp(IMAGES, np.choose(chosen[..., np.newaxis], [part * flow for flow in flows]))


def linear_penalty(kernel, bias, moved):
    logits, logits_after = (np.float64(images).reshape(SIZE, -1) @ kernel + bias for images in (IMAGES, moved))
    return kl(logits, logits_after)


def moved_of(kernel, bias, **options):
    """The images as the worst flow moves them, for a linear model."""
    probabilities = np.exp(log_softmax(IMAGES.reshape(SIZE, -1) @ kernel + bias))
    upstream = (probabilities - np.eye(testing.CLASSES)[LABELS]) @ kernel.T
    return worst_images(upstream.reshape(IMAGES.shape), EPSILON, **options)


def penalty(model, loss=None, labels=LABELS, epsilon=EPSILON, **options):
    regularizer = fr.FlowConsistencyRegularizer(epsilon)
    return regularizer(model, IMAGES, labels, loss or testing.cross_entropy(), **options)[1]


class PenaltyTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1.0, 0.3)
    def test_linear_model_by_hand(self, part):
        model = linear()
        kernel, bias = map(np.float64, model.get_weights())
        expected = linear_penalty(kernel, bias, moved_of(kernel, bias, part=part))
        predictions, found = fr.FlowConsistencyRegularizer(EPSILON)(
            model, IMAGES, LABELS, testing.cross_entropy(), start_scale=part
        )
        self.assertAllClose(predictions, IMAGES.reshape(SIZE, -1) @ kernel + bias, rtol=1e-5)
        self.assertAllClose(found, expected.mean(), rtol=1e-4)
        self.assertGreater(expected.min(), 1e-4)

    def test_validation_takes_the_whole_radius(self):
        model = linear()
        self.assertAllClose(penalty(model, training=False, start_scale=0.3), penalty(model), rtol=1e-6)

    def test_derivative_is_that_of_the_divergence_along_a_flow_that_stays(self):
        model = linear("float64")
        kernel, bias = model.get_weights()
        moved, direction = moved_of(kernel, bias), np.random.RandomState(3).randn(*kernel.shape)
        step = 1e-6
        after, before = (linear_penalty(kernel + sign * step * direction, bias, moved).mean() for sign in (1, -1))
        with tf.GradientTape() as tape:
            found = fr.FlowConsistencyRegularizer(EPSILON)(
                model, IMAGES.astype("float64"), LABELS, testing.cross_entropy()
            )[1]
        gradient = tape.gradient(found, model.trainable_variables)[0]
        self.assertAllClose(np.sum(gradient * direction), (after - before) / (2 * step), rtol=1e-5)

    def test_flow_is_that_of_one_step_of_frank_wolfe(self):
        model = testing.network()
        model.compile(loss=testing.cross_entropy())
        attack = fr.attacks.FlowFrankWolfe(EPSILON, steps=1, step_decay="constant")
        found = attack.run(IMAGES, LABELS, model=model, stop_when_fooled=False)
        is_raised = (found.loss > found.clean_loss).numpy()  # Others are given back as they are.
        self.assertGreater(is_raised.sum(), 3)
        weights = is_raised.astype("float32")
        expected = np.mean(weights * kl(model(IMAGES), model(found.images)))
        self.assertAllClose(penalty(model, sample_weight=weights), expected, rtol=1e-4)

    @parameterized.parameters("linf", "pixel_l2")
    def test_flow_of_a_norm(self, norm):
        model = testing.network()
        model.compile(loss=testing.cross_entropy())
        regularizer = fr.FlowConsistencyRegularizer(1.3, norm=norm)
        attack = fr.attacks.FlowFrankWolfe(1.3, steps=1, step_decay="constant", norm=norm)
        found = attack.run(IMAGES, LABELS, model=model, stop_when_fooled=False)
        weights = tf.cast(found.loss > found.clean_loss, tf.float32)
        expected = np.mean(weights * kl(model(IMAGES), model(found.images)))
        measured = regularizer(model, IMAGES, LABELS, testing.cross_entropy(), sample_weight=weights)[1]
        self.assertAllClose(measured, expected, rtol=1e-4)

    def test_no_radius_no_penalty(self):
        self.assertAllClose(penalty(testing.network(), epsilon=0.0), 0.0, atol=1e-7)

    def test_probabilities_have_the_penalty_of_their_logits(self):
        logits, probabilities = linear(), linear(activation="softmax")
        expected = penalty(logits)
        self.assertAllClose(penalty(probabilities, keras.losses.SparseCategoricalCrossentropy()), expected, rtol=1e-4)
        one_hot = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.assertAllClose(penalty(logits, one_hot, np.eye(testing.CLASSES)[LABELS]), expected, rtol=1e-5)

    @parameterized.parameters(True, False)
    def test_binary_outputs_are_two_classes_each(self, from_logits):
        model = linear(activation=None if from_logits else "sigmoid")
        loss, labels = keras.losses.BinaryCrossentropy(from_logits=from_logits), np.eye(testing.CLASSES)[LABELS]
        kernel, bias = map(np.float64, model.get_weights())
        z = IMAGES.reshape(SIZE, -1) @ kernel + bias
        upstream = ((1 / (1 + np.exp(-z)) - labels) @ kernel.T).reshape(IMAGES.shape)
        after = worst_images(upstream, EPSILON).reshape(SIZE, -1) @ kernel + bias
        each = [kl(np.stack([0 * a, a], 1), np.stack([0 * b, b], 1)) for a, b in zip(z.T, after.T)]
        self.assertAllClose(penalty(model, loss, labels), np.mean(each), rtol=1e-4)

    def test_examples_whose_label_is_ignored_do_not_count(self):
        model, labels = linear(), np.array([*LABELS[:4], -1, -1])
        expected = np.mean([penalty(model, sample_weight=np.eye(SIZE)[i]) for i in range(4)]) * SIZE
        self.assertAllClose(penalty(model, testing.cross_entropy(ignore_class=-1), labels), expected, rtol=1e-5)

    def test_half_precision(self):
        half, whole = testing.network(dtype="mixed_float16"), testing.network()
        half.set_weights(whole.get_weights())
        found = penalty(half)
        self.assertEqual(found.dtype, tf.float32)
        self.assertAllClose(found, penalty(whole), rtol=2e-2)


class PassesTest(tf.test.TestCase):
    def test_both_passes_draw_the_same_mask(self):
        # With another mask in each pass, the predictions would differ without any flow.
        model = testing.network(keras.layers.Dropout(0.5))
        self.assertAllClose(penalty(model, epsilon=0.0), 0.0, atol=1e-6)
        self.assertGreater(penalty(model), 1e-4)

    def test_the_images_alone_count_for_moving_statistics(self):
        plain, model = (testing.network(keras.layers.BatchNormalization()) for _ in range(2))
        plain(IMAGES, training=True)
        penalty(model)
        for found, expected in zip(model.get_weights(), plain.get_weights()):
            self.assertAllClose(found, expected, rtol=1e-5)

    def test_losses_of_activations_are_those_of_the_images(self):
        plain, model = (testing.network(keras.layers.Dense(4, activity_regularizer="l2")) for _ in range(2))
        model.set_weights(plain.get_weights())
        plain(IMAGES, training=True)
        penalty(model)
        self.assertAllClose(model.losses, plain.losses)

    def test_augmentation_runs_once_before_the_flow(self):
        augmented = keras.Sequential([keras.layers.RandomFlip(seed=1), testing.network()])
        augmented.build((None, *testing.SHAPE))
        self.assertAllClose(penalty(augmented, epsilon=0.0), 0.0, atol=1e-6)

    def test_a_layer_without_a_second_derivative_is_trained(self):
        model = regularized(testing.network(WithoutSecondDerivative()))
        history = testing.fit(model, epochs=2)
        self.assertLess(history["loss"][1], history["loss"][0])

    def test_an_operation_without_a_derivative(self):
        class Rounded(keras.layers.Layer):
            def call(self, inputs):
                return tf.raw_ops.AdjustContrastv2(images=inputs, contrast_factor=2.0)

        with self.assertRaisesRegex(
            ValueError, "Expected every operation of the model to have a derivative, which the pen"
        ):
            testing.fit(regularized(testing.network(Rounded())))

    def test_draws_that_cannot_be_repeated(self):
        with self.assertRaisesRegex(ValueError, "both passes of the penalty have to draw the same noise"):
            testing.fit(regularized(testing.network(NoiseOfItsOwn())))


class NoiseOfItsOwn(keras.layers.Layer):
    def call(self, inputs, training=None):
        return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs


class WithoutSecondDerivative(keras.layers.Layer):
    def call(self, inputs):
        @tf.custom_gradient
        def square(x):
            def slope(upstream):
                return tf.numpy_function(lambda x, y: np.float32(2) * x * y, [x, upstream], tf.float32)

            return tf.square(x), slope

        outputs = square(inputs)
        outputs.set_shape(inputs.shape)
        return outputs

    def compute_output_shape(self, shape):
        return shape


def regularized(network, **options):
    model = fr.FlowRegularizedModel(network, fr.FlowConsistencyRegularizer(EPSILON, weight=2.0))
    model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy(), metrics=["accuracy"], **options)
    return model


class TrainingTest(tf.test.TestCase, parameterized.TestCase):
    def test_loss_is_the_tasks_and_the_weighted_penalty(self):
        model = regularized(testing.network())
        images, labels = testing.data()
        expected = float(penalty_of(model, images, labels))
        logs = model.evaluate(images, labels, batch_size=len(images), verbose=0, return_dict=True)
        self.assertAllClose(logs["consistency_penalty"], expected, rtol=1e-4)
        self.assertAllClose(logs["loss"], logs["task_loss"] + 2 * expected, rtol=1e-4)

    def test_without_a_radius_it_trains_as_plainly(self):
        def network():
            dense = keras.layers.Dense(4, activity_regularizer="l2", kernel_initializer="ones")
            return testing.network(keras.layers.BatchNormalization(), dense)

        histories, weights = [], []
        for regularizer in (None, fr.FlowConsistencyRegularizer(0.0, weight=5.0)):
            model = fr.FlowRegularizedModel(network(), regularizer)
            model.compile(keras.optimizers.SGD(0.01), testing.cross_entropy())
            histories.append(testing.fit(model, epochs=2)["loss"])
            weights.append(model.base_model.get_weights())
        self.assertAllClose(*histories, rtol=1e-5)
        self.assertAllClose(*weights, rtol=1e-4, atol=1e-5)

    def test_xla_trains_as_without_it(self):
        trained = [regularized(testing.network(), jit_compile=jit_compile) for jit_compile in (False, True)]
        graph, compiled = (testing.fit(model, size=40) for model in trained)  # The last batch is smaller.
        for name in graph:
            self.assertAllClose(compiled[name], graph[name], rtol=1e-3)
        self.assertAllClose(*(model.base_model.get_weights() for model in trained), atol=5e-4)

    def test_images_of_another_precision_than_the_model(self):
        images, labels = testing.data()
        models = [regularized(testing.network()) for _ in range(2)]
        double, single = (
            model.fit(images.astype(dtype), labels, shuffle=False, verbose=0).history
            for model, dtype in zip(models, ("float64", "float32"))
        )
        self.assertAllClose(double["consistency_penalty"], single["consistency_penalty"], rtol=1e-4)

    def test_training_makes_predictions_consistent(self):
        images, labels = testing.data()
        after = {}
        for weight in (0.0, 20.0):
            model = fr.FlowRegularizedModel(testing.network(), fr.FlowConsistencyRegularizer(EPSILON, weight))
            model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
            warmups = [fr.callbacks.PenaltyWarmup(2), fr.callbacks.EpsilonWarmup(2)]
            testing.fit(model, epochs=10, callbacks=warmups)
            after[weight] = float(penalty_of(model, images, labels))
        self.assertLess(after[20.0], after[0.0] / 4)

    def test_it_is_saved_and_loaded(self):
        model = regularized(testing.network())
        path = os.path.join(self.get_temp_dir(), "model.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertEqual(loaded.regularizer.get_config(), {"epsilon": EPSILON, "weight": 2.0, "norm": "linf"})

    def test_bad_input(self):
        with self.assertRaisesRegex(ValueError, "Expected `epsilon`.*Received -1"):
            fr.FlowConsistencyRegularizer(-1.0)
        with self.assertRaisesRegex(ValueError, "Expected `weight`.*Received -1"):
            fr.FlowConsistencyRegularizer(1.0, -1.0)
        with self.assertRaisesRegex(ValueError, "Expected `norm` to be one of"):
            fr.FlowConsistencyRegularizer(1.0, norm="l2")
        with self.assertRaisesRegex(ValueError, "Expected a cross-entropy.*Received mean_squared_error"):
            penalty(testing.network(), keras.losses.MeanSquaredError(), np.eye(testing.CLASSES)[LABELS])
        with self.assertRaisesRegex(ValueError, "Expected `epsilon` to be in pixels, and at most 10"):
            penalty(testing.network(), epsilon=11.0)
        with self.assertRaisesRegex(ValueError, "Expected a loss"):
            fr.FlowConsistencyRegularizer(1.0)(testing.network(), IMAGES, LABELS)


def penalty_of(model, images, labels):
    return fr.FlowConsistencyRegularizer(EPSILON)(
        model.base_model, images, labels, testing.cross_entropy(), training=False
    )[1]


if __name__ == "__main__":
    tf.test.main()

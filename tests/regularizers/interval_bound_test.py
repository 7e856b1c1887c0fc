"""Tests of certified training: the bound of the loss by hand, its derivative, and what a network learns by it."""

import math
import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

import keras_flowreg as fr
from keras_flowreg import compat
from keras_flowreg.regularizers import bound_penalties
from keras_flowreg.regularizers.small_box import small_box
from tests import testing
from tests.certification import networks

IMAGES = networks.images(6)
LABELS = np.array([0, 1, 2] * 2)
EPSILON = 0.3


def network(*parts):
    return networks.chain(layers.Conv2D(4, 3), *parts, layers.ReLU())


def penalty(model, epsilon=EPSILON, labels=LABELS, loss=None, how=None, **options):
    """The penalty of a regularizer with some options, `how`."""
    regularizer = fr.IntervalBoundRegularizer(epsilon, loss=loss, **how or {})
    return regularizer(model, IMAGES, labels, testing.cross_entropy(), **options)[1]


def cross_entropy(logits, labels=LABELS):
    logits = np.float64(logits)
    return np.log(np.sum(np.exp(logits - logits[np.arange(len(labels)), labels][:, np.newaxis]), axis=1))


class PenaltyTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("linf", "pixel_l2")
    def test_linear_network_by_hand(self, norm):
        model = networks.chain()
        kernel, bias = (np.float64(weights) for weights in model.get_weights())
        box = fr.certification.reach_box(IMAGES, EPSILON, norm)
        low, high = (np.float64(end).reshape(6, -1) for end in box)
        clean, worst = IMAGES.reshape(6, -1) @ kernel + bias, np.zeros([6, 3])
        for example, label in enumerate(LABELS):
            lead = kernel[:, [label]] - kernel
            least = np.minimum(lead * low[example][:, np.newaxis], lead * high[example][:, np.newaxis]).sum(axis=0)
            worst[example] = -(least + bias[label] - bias)
        regularizer = fr.IntervalBoundRegularizer(EPSILON, norm=norm)
        predictions, found = regularizer(model, IMAGES, LABELS, testing.cross_entropy(), training=False)
        self.assertAllClose(predictions, clean, rtol=1e-4)
        self.assertAllClose(found, np.mean(cross_entropy(worst) - cross_entropy(clean)), rtol=1e-4)

    def test_no_flow_raises_the_loss_by_more(self):
        model = network()
        clean = cross_entropy(model(IMAGES))
        bound = penalty(model)
        for seed in range(10):
            flow = fr.balls.LInfBall(EPSILON).sample([*IMAGES.shape[:3], 2], (0, seed))
            raised = cross_entropy(model(fr.ops.dense_image_warp(IMAGES, flow)))
            self.assertLess(np.mean(raised - clean), bound)

    @parameterized.parameters(True, False)
    def test_none_without_a_radius(self, training):
        # In training, too, batch normalization takes the statistics of the images as they are.
        model = network(layers.BatchNormalization(), layers.MaxPooling2D())
        self.assertAllClose(penalty(model, 0.0, training=training), 0.0, atol=1e-3)
        self.assertGreater(penalty(model, training=training), 1.0)

    def test_a_layer_that_stays_in_inference_keeps_its_statistics(self):
        frozen = networks.chain(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU())
        inputs = keras.Input(networks.SHAPE)
        as_a_part = keras.Model(inputs, frozen(inputs, training=False))
        x = layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs), training=False)
        as_a_layer = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.ReLU()(x))))
        models = [as_a_part, as_a_layer]
        if not compat.KERAS_3:  # Which takes nothing but tensors by position.
            models.append(keras.Model(inputs, frozen(inputs, False)))
        for model in models:
            self.assertAllClose(penalty(model, 0.0, training=True), 0.0, atol=1e-3)

    def test_bounds_are_of_the_augmented_images(self):
        images, labels = testing.data(12)
        model = keras.Sequential([keras.Input(testing.SHAPE), keras.layers.RandomFlip(), testing.network()])
        penalize = fr.IntervalBoundRegularizer(0.0)
        drawn = [penalize(model, images, labels, testing.cross_entropy()) for _ in range(4)]
        for _, penalty in drawn:  # Nothing moves, so that nothing rises.
            self.assertAllClose(penalty, 0, atol=1e-3)
        self.assertNotAllClose(drawn[0][0], drawn[1][0], atol=1e-3)

    def test_statistics_of_the_batch(self):
        model = network(layers.BatchNormalization())
        trained = penalty(model)
        # The moving averages become those of the batch.
        values = model.layers[0](IMAGES).numpy()
        model.layers[1].moving_mean.assign(values.mean(axis=(0, 1, 2)))
        model.layers[1].moving_variance.assign(values.var(axis=(0, 1, 2)))
        self.assertAllClose(penalty(model, training=False), trained, rtol=1e-4)

    def test_scale_of_the_radius(self):
        model = networks.chain(layers.ReLU())  # Below half of a pixel a flow in the box is linear in its length.
        self.assertAllClose(penalty(model, 0.2, start_scale=0.0), 0.0, atol=1e-3)
        self.assertLess(penalty(model, 0.2, start_scale=0.5), 0.7 * penalty(model, 0.2))
        self.assertAllClose(penalty(model, 0.2, start_scale=0.5, training=False), penalty(model, 0.2))

    def test_images_of_another_precision(self):
        model = network()
        regularizer, images = fr.IntervalBoundRegularizer(EPSILON), np.float64(IMAGES)
        found = regularizer(model, images, LABELS, testing.cross_entropy())[1]
        self.assertAllClose(found, penalty(model), rtol=1e-4)

    def test_weights_of_examples(self):
        model = network()
        each = [penalty(model, sample_weight=np.eye(6)[example]) for example in range(6)]
        self.assertAllClose(sum(each), penalty(model), rtol=1e-4)

    def test_kinds_of_predictions_and_labels(self):
        model = network()
        for weights in model.trainable_weights:  # Keras cuts off the probabilities of sure networks.
            weights.assign(weights / 10)
        expected = penalty(model)
        inputs = keras.Input(networks.SHAPE)
        with_softmax = keras.Model(inputs, layers.Softmax()(model(inputs)))
        self.assertAllClose(penalty(with_softmax, loss="sparse_categorical_crossentropy"), expected, rtol=1e-3)
        one_hot = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.assertAllClose(penalty(model, labels=np.eye(3)[LABELS], loss=one_hot), expected, rtol=1e-4)

    @parameterized.product(ending=["softmax", "sigmoid"], in_graph=[False, True])
    def test_probabilities_of_a_sure_network_are_those_of_its_logits(self, ending, in_graph):
        classes, labels = (3, LABELS) if ending == "softmax" else (1, LABELS % 2)
        found = []
        for activation in (ending, None):
            model = keras.Sequential([keras.Input(networks.SHAPE), layers.Flatten(), layers.Dense(classes, activation)])
            networks.randomize(model)
            kind = keras.losses.SparseCategoricalCrossentropy if classes > 1 else keras.losses.BinaryCrossentropy
            loss = kind(from_logits=activation is None)

            def bound(model=model, loss=loss):
                return fr.IntervalBoundRegularizer(1.0)(model, IMAGES, labels, loss, training=False)[1]

            found.append(tf.function(bound)() if in_graph else bound())
        self.assertAllClose(*found, rtol=1e-4)
        self.assertGreater(found[1], 16)  # More than the logarithm of where Keras cuts probabilities off.

    @parameterized.parameters(
        (
            None,
            keras.losses.BinaryCrossentropy(from_logits=True, name="own"),
            lambda z, y: np.logaddexp(0, np.where(y, -z, z)),
        ),
        ("sigmoid", keras.losses.BinaryCrossentropy(), lambda z, y: np.logaddexp(0, np.where(y, -z, z))),
        ("sigmoid", keras.losses.MeanSquaredError(), lambda z, y: (1 / (1 + np.exp(-z)) - y) ** 2),
        (None, keras.losses.SquaredHinge(), lambda z, y: np.maximum(0, 1 - np.where(y, z, -z)) ** 2),
    )
    def test_losses_of_each_output(self, activation, loss, by_hand):
        model = keras.Sequential(
            [keras.Input(networks.SHAPE), layers.Flatten(), layers.Dense(3, activation=activation)]
        )
        networks.randomize(model)
        for weights in model.trainable_weights:  # Keras cuts off the probabilities of sure networks.
            weights.assign(weights / 10)
        kernel, bias = (np.float64(weights) for weights in model.get_weights())
        low, high = (np.float64(end).reshape(6, -1) for end in fr.certification.reach_box(IMAGES, EPSILON))
        positive, negative = np.maximum(kernel, 0), np.minimum(kernel, 0)
        least, greatest = low @ positive + high @ negative + bias, high @ positive + low @ negative + bias
        one_hot = np.eye(3)[LABELS]
        worst = by_hand(np.where(one_hot, least, greatest), one_hot)
        clean = by_hand(IMAGES.reshape(6, -1) @ kernel + bias, one_hot)
        found = penalty(model, labels=np.float32(one_hot), loss=loss)
        self.assertAllClose(found, np.mean(worst - clean), rtol=1e-3)

    def test_losses_without_a_bound(self):
        model, one_hot = network(), np.eye(3)[LABELS]
        inputs = keras.Input(networks.SHAPE)
        with_softmax = keras.Model(inputs, layers.Softmax()(model(inputs)))
        for each, loss, message in (
            (model, "mse", "mean_squared_error of logits"),
            (with_softmax, "mse", "mean_squared_error of probabilities"),
            (with_softmax, keras.losses.BinaryCrossentropy(), "binary_crossentropy of probabilities"),
        ):
            with self.assertRaisesRegex(ValueError, f"lead over another class.*Received {message}"):
                penalty(each, labels=one_hot, loss=loss)

    def test_losses_of_which_probabilities_are_not_the_worst(self):
        inputs = keras.Input(networks.SHAPE)
        with_softmax = keras.Model(inputs, layers.Softmax()(network()(inputs)))
        for loss, name in (
            (fr.ops.MarginLoss(), "margin"),
            (testing.cross_entropy(), "sparse_categorical_crossentropy"),
        ):
            with self.assertRaisesRegex(
                ValueError, f"ends in a softmax.*Received {name}, whose worst case needs logits"
            ):
                penalty(with_softmax, loss=loss)

    def test_losses_that_are_sums(self):
        with self.assertRaisesRegex(
            ValueError, "a mean over the batch.*sparse_categorical_crossentropy with reduction"
        ):
            penalty(network(), loss=testing.cross_entropy(reduction="sum"))

    def test_normalization_that_trains_by_other_statistics(self):
        if not compat.KERAS_3:
            model = network(layers.BatchNormalization(renorm=True, name="renormalized"))
            with self.assertRaisesRegex(ValueError, "without `renorm` in training. Received renormalized"):
                penalty(model)

    def test_labels_that_several_classes_share(self):
        model, one_hot = network(), np.eye(3)[LABELS]
        one = networks.chain(layers.Conv2D(3, 3, activation="relu"), classes=1)
        for loss in (
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
            fr.ops.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True),
        ):
            labels = LABELS if "sparse" in loss.name else one_hot
            with self.assertRaisesRegex(ValueError, "without label smoothing.*Received .*label_smoothing=0.1"):
                penalty(model, labels=labels, loss=loss)
        mixed = [[0.6, 0.4, 0.0]] * 6
        both = [[1.0, 1.0, 0.0]] * 6
        binary = keras.losses.BinaryCrossentropy(from_logits=True)
        for each_model, labels, loss in (
            (model, mixed, keras.losses.CategoricalCrossentropy(from_logits=True)),
            (model, mixed, binary),
            (model, both, binary),
            (one, [[0.4]] * 6, binary),
        ):
            with self.assertRaisesRegex(ValueError, "Expected labels of one class each"):
                penalty(each_model, labels=np.array(labels), loss=loss)

    def test_two_classes_by_one_logit(self):
        model = networks.chain(layers.Conv2D(3, 3, activation="relu"), classes=1)
        labels = LABELS > 0
        margin = np.float64(fr.certify(model, IMAGES, labels, EPSILON, method="ibp").margin)
        clean = model.predict(IMAGES, verbose=0)[:, 0] * np.where(labels, 1, -1)
        expected = np.mean(np.logaddexp(0, -margin) - np.logaddexp(0, -clean))
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        self.assertAllClose(penalty(model, labels=np.float32(labels), loss=loss), expected, rtol=1e-4)

    @parameterized.parameters({}, {"crown_ibp": (1.0, 1.0)})
    def test_ignored_examples_do_not_count(self, **how):
        model, loss = network(), keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
        labels = np.where(np.arange(6) < 2, -1, LABELS)
        logits = model(IMAGES)
        self.assertAllClose(loss(labels, logits), np.mean(cross_entropy(logits)[2:]), rtol=1e-4)  # Keras's own mean.
        expected = penalty(model, sample_weight=np.arange(6) >= 2, how=how) * 6 / 4
        for regularize in (penalty, tf.function(penalty)):
            self.assertAllClose(regularize(model, labels=labels, loss=loss, how=how), expected, rtol=1e-4)

    @parameterized.parameters(
        {}, {"crown_ibp": (1.0, 1.0)}, {"crown_ibp": (0.4, 0.4), "warmup_weight": 50.0}, {"box_part": 0.5}
    )
    def test_derivative(self, **how):
        model = network(layers.BatchNormalization())
        regularizer, loss = fr.IntervalBoundRegularizer(0.1, **how), testing.cross_entropy()
        with tf.GradientTape() as tape:
            value = regularizer(model, IMAGES, LABELS, loss)[1]
        for weights, gradient in zip(model.trainable_weights, tape.gradient(value, model.trainable_weights)):
            if gradient.shape.rank > 1:  # A bias before batch normalization changes nothing.
                start, step = weights.numpy(), 1e-3 * gradient.numpy() / np.linalg.norm(gradient)
                values = []
                for sign in (-1, 1):
                    weights.assign(start + sign * step)
                    values.append(regularizer(model, IMAGES, LABELS, loss)[1])
                weights.assign(start)
                self.assertAllClose((values[1] - values[0]) / 2e-3, np.linalg.norm(gradient), rtol=0.05)

    def test_bad_input(self):
        for options, message in (
            ({"epsilon": -1}, "Expected `epsilon`.*-1"),
            ({"epsilon": 1, "weight": -1}, "Expected `weight`.*-1"),
            ({"epsilon": 1, "norm": "l2"}, "Expected `norm`.*'l2'"),
            ({"epsilon": 1, "crown_ibp": (1,)}, "Expected `crown_ibp` to be two fractions.*1"),
            ({"epsilon": 1, "crown_ibp": 1}, "Expected `crown_ibp` to be two fractions.*1"),
            ({"epsilon": 1, "crown_ibp": (1, 2)}, "Expected `crown_ibp` to be a fraction.*2"),
            ({"epsilon": 1, "warmup_weight": -1}, "Expected `warmup_weight`.*-1"),
            ({"epsilon": 1, "box_part": 0}, "Expected `box_part` to be more than 0.*0"),
            ({"epsilon": 1, "attack_steps": 0}, "Expected `attack_steps`.*0"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                fr.IntervalBoundRegularizer(**options)
        with self.assertRaisesRegex(ValueError, "rule for bounds.*sin"):
            penalty(network(layers.Lambda(tf.sin)))
        with self.assertRaisesRegex(ValueError, "Expected one weight for each image. Received 6 images"):
            penalty(network(), sample_weight=[2.0])


class TrainingTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        # How bright an image is says its class, whatever flow moves its pixels.
        self.images = 0.2 * IMAGES + 0.4 * LABELS[:, np.newaxis, np.newaxis, np.newaxis].astype("float32")

    def regularized(self, weight=1.0, **how):
        model = network(layers.BatchNormalization(momentum=0.8))
        fr.certification.initialize(model)
        regularized = fr.FlowRegularizedModel(model, fr.IntervalBoundRegularizer(EPSILON, weight, **how))
        regularized.compile(keras.optimizers.Adam(0.02), testing.cross_entropy())
        return regularized

    def certified(self, model):
        return np.mean(fr.certify(model, self.images, LABELS, EPSILON, method="ibp").certified)

    def fit(self, model, epochs, **options):
        return model.fit(self.images, LABELS, batch_size=6, epochs=epochs, verbose=0, **options).history

    def test_what_is_learned_is_proven(self):
        model = self.regularized()
        self.assertLess(self.certified(model), 0.5)
        warmups = [fr.callbacks.PenaltyWarmup(20), fr.callbacks.EpsilonWarmup(20)]
        history = self.fit(model, 60, callbacks=warmups)
        self.assertContainsSubset(["loss", "task_loss", "interval_penalty"], history)
        self.assertAllClose(history["loss"][-1], history["task_loss"][-1] + history["interval_penalty"][-1], rtol=1e-4)
        self.assertEqual(self.certified(model), 1.0)

    def test_with_every_option(self):
        model = self.regularized(crown_ibp=(1, 0), warmup_weight=0.5, box_part=0.8, attack_steps=1)
        self.fit(model, 30, callbacks=[fr.callbacks.EpsilonWarmup(10)])
        self.assertGreater(self.certified(model), 0.9)

    def test_images_of_unknown_sizes(self):
        regularized = self.regularized()
        signature = (tf.TensorSpec([None, None, None, 2]), tf.TensorSpec([None], tf.int64))
        data = tf.data.Dataset.from_generator(lambda: [(self.images, LABELS)], output_signature=signature)
        expected = regularized.evaluate(self.images, LABELS, batch_size=6, verbose=0)
        self.assertAllClose(regularized.evaluate(data, verbose=0), expected, rtol=1e-4)
        model = keras.Sequential([keras.Input([None, None, 2]), layers.GlobalAveragePooling2D(), layers.Dense(3)])
        regularized = fr.FlowRegularizedModel(model, fr.IntervalBoundRegularizer(EPSILON))
        regularized.compile("sgd", testing.cross_entropy())
        with self.assertRaisesRegex(ValueError, r"known height, width.*\(None, None, None, 2\)"):
            regularized.fit(data, verbose=0)

    def test_a_saved_model_comes_back(self):
        model = self.regularized(weight=0.5, crown_ibp=(1, 0.5), warmup_weight=0.5, box_part=0.5, attack_steps=3)
        path = os.path.join(self.get_temp_dir(), "model.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertEqual(loaded.regularizer.get_config(), model.regularizer.get_config())
        expected, found = (each.evaluate(self.images, LABELS, verbose=0) for each in (model, loaded))
        self.assertAllClose(expected, found, rtol=1e-4)

    def test_xla_gives_the_same_penalty(self):
        model = network(layers.MaxPooling2D())
        options = {
            "start_scale": 0.5,
            "how": {"crown_ibp": (1, 1), "warmup_weight": 0.5, "box_part": 0.5, "attack_steps": 1},
        }
        compiled = tf.function(lambda: penalty(model, **options), jit_compile=True)
        self.assertAllClose(compiled(), penalty(model, **options), rtol=1e-3)


class MixOfBoundsTest(tf.test.TestCase):
    """Of two classes, the only lead is the margin that a certificate has."""

    def setUp(self):
        super().setUp()
        self.model = networks.chain(layers.Conv2D(4, 3, activation="relu"), shape=(7, 6, 1), classes=2)
        self.images, self.labels = IMAGES[..., :1], LABELS % 2
        self.clean = np.mean(cross_entropy(self.model(self.images), self.labels))
        self.by_intervals, self.by_lines = (self.margin(method) for method in ("ibp", "crown_ibp"))

    def margin(self, method):
        return fr.certify(self.model, self.images, self.labels, EPSILON, method=method).margin.numpy()

    def penalty(self, *crown_ibp, **options):
        regularizer = fr.IntervalBoundRegularizer(EPSILON, crown_ibp=crown_ibp)
        return regularizer(self.model, self.images, self.labels, testing.cross_entropy(), **options)[1]

    def test_all_none_and_half(self):
        self.assertAllGreater(self.by_lines - self.by_intervals, 0.1)
        for part in (0.0, 0.5, 1.0):
            margin = part * self.by_lines + (1 - part) * self.by_intervals
            self.assertAllClose(self.penalty(part, part), np.mean(np.logaddexp(0, -margin)) - self.clean, rtol=1e-3)

    def test_the_mix_follows_the_radius(self):
        for scale, part in ((0.25, 0.75), (0.5, 0.5), (1.0, 0.0)):
            expected = self.penalty(part, part, start_scale=scale)
            self.assertAllClose(self.penalty(1.0, 0.0, start_scale=scale), expected, rtol=1e-4)
        self.assertAllClose(self.penalty(1.0, 0.0, start_scale=0.5, training=False), self.penalty(0.0, 0.0), rtol=1e-4)


class WarmupPenaltiesTest(tf.test.TestCase):
    def test_tightness_by_hand(self):
        box, wide, narrow = (fr.certification.Interval(-radius, radius) for radius in tf.constant([1.0, 4.0, 0.5]))
        self.assertAllClose(bound_penalties.tightness_penalty(box, [wide]), 1 - 2 / 4)
        self.assertAllClose(bound_penalties.tightness_penalty(box, [narrow]), 0.0)
        self.assertAllClose(bound_penalties.tightness_penalty(box, [wide, narrow]), (1 - 2 / 4) / 2)

    def test_balance_by_hand(self):
        # Centers 2, 4 (active), -1 (inactive), and one of which the sign is not known. Their mean is 1.5.
        interval = fr.certification.Interval(tf.constant([1.0, 3, -2, -1]), tf.constant([3.0, 5, 0 - 1e-6, 3]))
        by_mean, by_variance = 1 - 2 * 1 / 6, 1 - 2 * min(2.5**2 / (0.5**2 + 2.5**2), 0.5)
        self.assertAllClose(bound_penalties.balance_penalty([interval]), by_mean + by_variance, rtol=1e-4)
        mirrored = fr.certification.Interval(-interval.high, -interval.low)
        self.assertAllClose(bound_penalties.balance_penalty([mirrored]), by_mean + by_variance, rtol=1e-4)
        unknown = fr.certification.Interval(tf.constant([-1.0]), tf.constant([1.0]))
        self.assertAllClose(bound_penalties.balance_penalty([unknown]), 0.0)
        self.assertAllClose(bound_penalties.balance_penalty([]), 0.0)

    def test_weighted_and_decayed_with_the_radius(self):
        # A kernel of one number makes intervals that many times wider, and keeps what is bright active.
        model = networks.chain(layers.Conv2D(2, 1, use_bias=False), layers.ReLU())
        model.layers[0].kernel.assign(4 * tf.reshape(tf.eye(2), [1, 1, 2, 2]))
        for scale, part in ((0.25, 0.75), (0.5, 0.5), (1.0, 0.0)):
            without = penalty(model, start_scale=scale)
            added = penalty(model, start_scale=scale, how={"warmup_weight": 10.0}) - without
            # Half of the tightness is missing; nothing is inactive.
            self.assertAllClose(added, 10 * part * (0.5 + 2), rtol=1e-3, atol=1e-3)
        outside = penalty(model, training=False, start_scale=0.5, how={"warmup_weight": 10.0})
        self.assertAllClose(outside, penalty(model), rtol=1e-4)


class SmallBoxTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.1, 0.7, 1.0)
    def test_in_the_corner_that_a_linear_loss_points_to(self, part):
        box = fr.certification.reach_box(IMAGES, EPSILON)
        slopes = networks.images(6, seed=1) - 0.5
        small = small_box(box, IMAGES, part, lambda images: tf.reduce_sum(slopes * images, axis=[1, 2, 3]), steps=3)
        self.assertAllGreaterEqual(small.low - box.low, -1e-6)
        self.assertAllGreaterEqual(box.high - small.high, -1e-6)
        self.assertAllClose(small.radius, part * box.radius, atol=1e-6)
        self.assertAllClose(tf.where(slopes > 0, small.high - box.high, small.low - box.low), 0 * IMAGES, atol=1e-6)

    @parameterized.parameters(0.1, 0.7)
    def test_loses_nothing_on_a_linear_network(self, part):
        # Of two classes the loss is that of one linear form, and its worst corner is in the small box, too.
        model = networks.chain(classes=2)
        whole, small = (penalty(model, labels=LABELS % 2, how={"box_part": each}) for each in (1.0, part))
        self.assertAllClose(small, whole, rtol=1e-4)

    def test_bounds_less_than_the_whole_box_in_training(self):
        model = network()
        penalties = [penalty(model, how={"box_part": part}) for part in (0.2, 0.6, 1.0)]
        self.assertAllGreater(np.diff(penalties), 0.1)
        self.assertAllClose(penalty(model, training=False, how={"box_part": 0.2}), penalties[2], rtol=1e-4)


class InitializeTest(tf.test.TestCase):
    def test_standard_deviation(self):
        separable = layers.SeparableConv2D(128, 3, padding="same")
        model = networks.chain(
            layers.Conv2D(64, 3), layers.BatchNormalization(), layers.DepthwiseConv2D(3, padding="same"), separable
        )
        others = model.layers[1].get_weights()
        fr.certification.initialize(model)
        convolution, _, depthwise, _, _, dense = model.layers
        for weights, inputs in (
            (convolution.get_weights()[0], 18),
            (depthwise.get_weights()[0], 9),
            (separable.get_weights()[0], 9),
            (separable.get_weights()[1], 64),
            (dense.get_weights()[0], 5 * 4 * 128),
        ):
            self.assertAllClose(np.std(weights), math.sqrt(2 * math.pi) / inputs, rtol=0.1)
        self.assertAllEqual(model.layers[1].get_weights()[0], others[0])

    def test_only_kernels_and_those_of_transposed_convolutions(self):
        slopes = layers.PReLU(alpha_initializer="ones")
        transposed = layers.Conv2DTranspose(128, 3)
        model = networks.chain(layers.Conv2D(16, 3), slopes, transposed)
        weights = slopes.get_weights()[0]
        fr.certification.initialize(model)
        self.assertAllEqual(slopes.get_weights()[0], weights)
        self.assertAllClose(np.std(transposed.get_weights()[0]), math.sqrt(2 * math.pi) / (9 * 16), rtol=0.1)


if __name__ == "__main__":
    tf.test.main()

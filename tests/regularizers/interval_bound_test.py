"""Tests of certified training: the bound of the loss by hand, its derivative, and what a network learns by it."""

import math
import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

import keras_flowreg as fr
from tests import testing
from tests.certification import networks

IMAGES = networks.images(6)
LABELS = np.array([0, 1, 2] * 2)
EPSILON = 0.3


def network(*parts):
    return networks.chain(layers.Conv2D(4, 3), *parts, layers.ReLU())


def penalty(model, epsilon=EPSILON, labels=LABELS, loss=None, **options):
    regularizer = fr.IntervalBoundRegularizer(epsilon, loss=loss)
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

    def test_two_classes_by_one_logit(self):
        model = networks.chain(layers.Conv2D(3, 3, activation="relu"), classes=1)
        labels = LABELS > 0
        margin = np.float64(fr.certify(model, IMAGES, labels, EPSILON, method="ibp").margin)
        clean = model.predict(IMAGES, verbose=0)[:, 0] * np.where(labels, 1, -1)
        expected = np.mean(np.logaddexp(0, -margin) - np.logaddexp(0, -clean))
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        self.assertAllClose(penalty(model, labels=np.float32(labels), loss=loss), expected, rtol=1e-4)

    def test_derivative(self):
        model = network(layers.BatchNormalization())
        regularizer, loss = fr.IntervalBoundRegularizer(0.1), testing.cross_entropy()
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
        ):
            with self.assertRaisesRegex(ValueError, message):
                fr.IntervalBoundRegularizer(**options)
        with self.assertRaisesRegex(ValueError, "LayerNormalization"):
            penalty(network(layers.LayerNormalization()))


class TrainingTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        # How bright an image is says its class, whatever flow moves its pixels.
        self.images = 0.2 * IMAGES + 0.4 * LABELS[:, np.newaxis, np.newaxis, np.newaxis].astype("float32")

    def regularized(self, weight=1.0):
        model = network(layers.BatchNormalization(momentum=0.8))
        fr.certification.initialize(model)
        regularized = fr.FlowRegularizedModel(model, fr.IntervalBoundRegularizer(EPSILON, weight))
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

    def test_a_saved_model_comes_back(self):
        model = self.regularized(weight=0.5)
        path = os.path.join(self.get_temp_dir(), "model.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertEqual(loaded.regularizer.get_config(), model.regularizer.get_config())
        expected, found = (each.evaluate(self.images, LABELS, verbose=0) for each in (model, loaded))
        self.assertAllClose(expected, found, rtol=1e-4)

    def test_xla_gives_the_same_penalty(self):
        model = network(layers.MaxPooling2D())
        compiled = tf.function(lambda: penalty(model), jit_compile=True)
        self.assertAllClose(compiled(), penalty(model), rtol=1e-4)


class InitializeTest(tf.test.TestCase):
    def test_standard_deviation(self):
        model = networks.chain(layers.Conv2D(64, 3), layers.BatchNormalization())
        others = model.layers[1].get_weights()
        fr.certification.initialize(model)
        for layer, inputs in ((model.layers[0], 18), (model.layers[-1], 5 * 4 * 64)):
            self.assertAllClose(np.std(layer.get_weights()[0]), math.sqrt(2 * math.pi) / inputs, rtol=0.05)
        self.assertAllEqual(model.layers[1].get_weights()[0], others[0])


if __name__ == "__main__":
    tf.test.main()

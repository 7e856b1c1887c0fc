"""Tests of certificates: against exhaustive search, against attacks, and of every kind of model and label."""

import itertools
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

import keras_flowreg as fr
from keras_flowreg.certification import METHODS
from keras_flowreg.certification.bounds import Bounds
from tests import testing
from tests.certification import networks

IMAGES = networks.images(6)
EPSILON = 0.03


def network(*last):
    return networks.chain(layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(3, 3, activation="relu"), *last)


def predicted(model, images=IMAGES):
    return model.predict(images, verbose=0).argmax(axis=1)


def leads(logits, labels):
    """By how much the label's logit is above each other one: `[batch, classes - 1]`."""
    return np.stack([np.delete(row[label] - row, label) for row, label in zip(logits, labels)])


class CertifyTest(tf.test.TestCase, parameterized.TestCase):
    def test_exhaustive_search(self):
        # Every pixel of a grey image moves on its own, so all combinations of its values are tried.
        shape = (2, 3, 1)
        images = networks.images(4, shape)
        model = networks.chain(layers.Dense(4, activation="relu"), layers.Conv2D(3, 2, activation="relu"), shape=shape)
        labels = predicted(model, images)
        for epsilon in (1e-4, 0.1, 0.6):
            box = fr.certification.reach_box(images, epsilon)
            grid = np.array(list(itertools.product(np.linspace(0, 1, 4), repeat=6)), "float32").reshape(-1, 1, *shape)
            tried = box.low + grid * (box.high - box.low)
            logits = model.predict(tf.reshape(tried, [-1, *shape]), batch_size=4096, verbose=0).reshape(-1, 4, 3)
            searched = np.min([leads(each, labels) for each in logits], axis=(0, 2))
            for method in METHODS:
                certificate = fr.certify(model, images, labels, epsilon, method=method)
                self.assertAllLessEqual(certificate.margin - searched, 0)
                self.assertAllEqual(certificate.certified, certificate.margin > 0)
                self.assertAllLessEqual(certificate.certified.numpy() & (searched <= 0), False)

    def test_a_part_that_is_called_base_model_is_not_the_model(self):
        class Headed(keras.Model):
            def __init__(self):
                super().__init__()
                self.base_model = network()

            def call(self, images):
                return -self.base_model(images)

        model = Headed()
        labels = predicted(model)
        negative = keras.Sequential([model.base_model, layers.Rescaling(-1.0)])
        margins = [fr.certify(each, IMAGES, labels, EPSILON).margin for each in (model, negative)]
        self.assertAllClose(*margins, rtol=1e-4)

    @parameterized.parameters(*METHODS, "auto")
    def test_margin_without_a_flow(self, method):
        model = network()
        labels = predicted(model)
        certificate = fr.certify(model, IMAGES, labels, 0.0, method=method)
        margin = leads(model.predict(IMAGES, verbose=0), labels).min(axis=1)
        self.assertAllClose(certificate.margin, margin, rtol=1e-3, atol=1e-2)
        self.assertAllLessEqual(certificate.margin - margin, 0)

    def test_methods_are_ordered(self):
        model = network()
        margins = [fr.certify(model, IMAGES, predicted(model), EPSILON, method=method).margin for method in METHODS]
        self.assertAllLessEqual(margins[0] - margins[1], 0)
        self.assertAllLessEqual(margins[1] - margins[2], 0)
        self.assertLess(np.mean(margins[0]), np.mean(margins[1]) - 1)
        self.assertLess(np.mean(margins[1]), np.mean(margins[2]) - 0.1)
        self.assertAllLessEqual(margins[2] - margins[3], 0)
        self.assertLess(np.mean(margins[2]), np.mean(margins[3]) - 0.01)

    def test_optimized_slopes_are_sound(self):
        images = testing.data(12)[0]
        model, labels = testing.network(), predicted(testing.network(), images)
        certificate = fr.certify(model, images, labels, 0.1, method="alpha_crown")
        for seed in range(20):
            flow = fr.balls.LInfBall(0.1).sample([*images.shape[:3], 2], (0, seed))
            moved = fr.ops.dense_image_warp(images, tf.sign(flow) * 0.1 if seed % 2 else flow)
            self.assertAllLessEqual(certificate.margin - leads(model.predict(moved, verbose=0), labels).min(axis=1), 0)

    def test_auto_certifies_what_the_best_method_does_by_the_cheapest_method(self):
        model = network()
        labels = predicted(model)
        labels[0] = (labels[0] + 1) % 3
        auto = fr.certify(model, IMAGES, labels, 0.01)
        each = [fr.certify(model, IMAGES, labels, 0.01, method=method).certified.numpy() for method in METHODS]
        self.assertAllEqual(auto.certified, each[-1])
        self.assertGreater(len(set(auto.method)), 1)
        for by, *certified in zip(auto.method, *each):
            if any(certified):
                self.assertEqual(by, METHODS[certified.index(True)])
        self.assertEqual(auto.method[0], "ibp")  # Nothing is tried on what is wrong as it is.

    @parameterized.parameters((0.02, "linf"), (0.03, "pixel_l2"))
    def test_no_attack_breaks_what_is_certified(self, epsilon, norm):
        images = testing.data(12)[0]
        model = testing.network()
        model.compile(loss=testing.cross_entropy())
        labels = predicted(model, images)
        certified = fr.certify(model, images, labels, epsilon, norm=norm).certified.numpy()
        attack = fr.attacks.FlowFrankWolfe(epsilon, steps=5, norm=norm, loss="margin")
        fooled = attack.run(images, labels, model=model).success.numpy()
        self.assertFalse(np.any(certified & fooled))
        self.assertTrue(np.any(certified) and np.any(fooled))
        self.assertLess(np.mean(~certified & ~fooled), 0.35)

    def test_disc_is_in_the_square(self):
        model = network()
        disc, square = (
            fr.certify(model, IMAGES, predicted(model), EPSILON, method="ibp", norm=norm).margin
            for norm in ("pixel_l2", "linf")
        )
        self.assertAllLess(square - disc, 0)

    def test_budget(self):
        model = network()
        labels = predicted(model)
        expected = fr.certify(model, IMAGES, labels, EPSILON, method="crown_ibp").margin
        for method in ("crown", "beta_crown"):
            short = fr.certify(model, IMAGES, labels, EPSILON, method=method, budget=1e-9).margin
            self.assertAllClose(short, expected, rtol=1e-4)

    def test_batches(self):
        model = network()
        labels = predicted(model)
        whole, parts = (fr.certify(model, IMAGES, labels, EPSILON, batch_size=size) for size in (6, 4))
        self.assertAllClose(whole.margin, parts.margin, rtol=1e-3, atol=1e-3)  # Steps of Adam enlarge rounding.

    def test_fewer_examples_of_many_classes_at_once(self):
        model, images = networks.chain(classes=3000), networks.images(5)
        labels, sizes = predicted(model, images), []

        def minimum(bounds, forms):
            sizes.append(len(forms))
            return tf.zeros(forms.shape[:2])

        with mock.patch.object(Bounds, "minimum_by_intervals", minimum):
            fr.certify(model, images, labels, EPSILON, method="ibp")
        self.assertEqual(sizes, [1] * 5)

    def test_kinds_of_labels_and_models(self):
        model = network()
        labels = predicted(model)
        expected = fr.certify(model, IMAGES, labels, EPSILON, method="crown_ibp").margin
        inputs = keras.Input(networks.SHAPE)
        with_softmax = keras.Model(inputs, layers.Softmax()(model(inputs)))
        for other in (with_softmax, fr.FlowRegularizedModel(model)):
            self.assertAllClose(fr.certify(other, IMAGES, labels, EPSILON, method="crown_ibp").margin, expected)
        for other_labels in (labels[:, np.newaxis], np.eye(3)[labels], tf.constant(labels)):
            self.assertAllClose(fr.certify(model, IMAGES, other_labels, EPSILON, method="crown_ibp").margin, expected)

    def test_two_classes_by_one_logit(self):
        one = networks.chain(layers.Conv2D(3, 3, activation="relu"), classes=1)
        inputs = keras.Input(networks.SHAPE)
        two = keras.Model(inputs, layers.Concatenate()([layers.Rescaling(0.0)(one(inputs)), one(inputs)]))
        with_sigmoid = keras.Model(inputs, layers.Activation("sigmoid")(one(inputs)))
        labels = np.array([0, 1] * 3)
        expected = fr.certify(two, IMAGES, labels, EPSILON, method="crown").margin
        for model in (one, with_sigmoid):
            self.assertAllClose(fr.certify(model, IMAGES, labels, EPSILON, method="crown").margin, expected, atol=1e-4)

    def test_a_probability_is_no_logit(self):
        images = keras.Input(networks.SHAPE)
        features = networks.chain(layers.Conv2D(3, 3, activation="relu"), classes=1)
        compiled = keras.Sequential([images, features])
        compiled.compile("sgd", keras.losses.BinaryCrossentropy())
        for model in (
            keras.Model(images, layers.Flatten()(layers.Conv2D(1, (7, 6), activation="sigmoid")(images))),
            keras.Model(images, layers.Rescaling(0.5)(layers.Activation("sigmoid")(features(images)))),
            keras.Model(images, layers.Softmax()(features(images))),
            compiled,
        ):
            with self.assertRaisesRegex(ValueError, "Expected one logit.*`two_class_classifier`"):
                fr.certify(model, IMAGES, [0, 1] * 3, EPSILON, method="ibp")
        compiled.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
        fr.certify(compiled, IMAGES, [0, 1] * 3, EPSILON, method="ibp")

    def test_a_logit_that_is_positive_on_one_grey_image(self):
        dense = layers.Dense(1)
        model = keras.Sequential([keras.Input(networks.SHAPE), layers.Flatten(), dense])
        dense.set_weights([np.full([84, 1], 1 / 84), np.array([-0.5])])
        for value, margin in ((0.8, 0.3), (0.2, -0.3)):
            grey = np.full([1, *networks.SHAPE], value)
            self.assertAllClose(fr.certify(model, grey, [1], EPSILON, method="ibp").margin, [margin], atol=1e-3)

    def test_sigmoids_that_saturate_have_no_order(self):
        model = keras.Sequential(
            [
                keras.Input(networks.SHAPE),
                layers.Flatten(),
                layers.Dense(3, activation="sigmoid", kernel_initializer="zeros"),
            ]
        )
        for logits, is_certified in (([30, 40, 0], False), ([-200, 3, 2], True), ([-1, 1, 0], True)):
            model.layers[-1].bias.assign(np.float32(logits))
            certificate = fr.certify(model, IMAGES, np.ones(6, int), EPSILON)
            self.assertAllEqual(certificate.certified, [is_certified] * 6)

    @parameterized.parameters(
        ([3.0, 4.0], [25.0, 25.0], False),  # Under the flow both sigmoids are 1.
        ([11.0, 11.003], [1.0, 1.0], False),  # There they are the same to float32, or in another order.
        ([3.0, 4.0], [1.0, 1.0], True),
        ([-100.0, -95.0], [1.0, 1.0], False),  # There both are 0.
    )
    def test_sigmoids_that_a_flow_saturates(self, bias, weights, is_certified):
        image = np.zeros([1, 2, 4, 1], "float32")
        image[0, :, 2:] = 1
        dense = layers.Dense(2, activation="sigmoid")
        model = keras.Sequential([keras.Input((2, 4, 1)), layers.Flatten(), dense])
        kernel = np.zeros([8, 2], "float32")
        kernel[1] = weights
        dense.set_weights([kernel, np.float32(bias)])
        for method in ("ibp", "auto"):
            self.assertAllEqual(fr.certify(model, image, [1], 1.0, method=method).certified, [is_certified])
        flow = np.zeros([1, 2, 4, 2], "float32")
        flow[..., 1] = -1
        first, second = model(fr.ops.dense_image_warp(image, flow))[0]
        self.assertTrue(second > first or not is_certified)

    def test_one_hot_labels_are_none_of_one_logit(self):
        model = networks.chain(layers.Conv2D(3, 3, activation="relu"), classes=1)
        for labels in (np.eye(2)[[0, 1] * 3], np.zeros([6, 1, 1])):
            with self.assertRaisesRegex(ValueError, r"shape \[batch\] or \[batch, 1\].*one logit.*\(6, "):
                fr.certify(model, IMAGES, labels, EPSILON)

    @parameterized.parameters(1, 3)
    def test_channels(self, channels):
        shape = (6, 9, channels)
        images = networks.images(3, shape)
        model = networks.chain(layers.Conv2D(3, 3, strides=2, activation="swish"), shape=shape)
        labels = predicted(model, images)
        margins = [fr.certify(model, images, labels, epsilon).margin.numpy() for epsilon in (1e-4, 0.05, 2.0)]
        self.assertAllGreater(margins[0], 0)
        self.assertAllLess(margins[2] - margins[1], 0)

    def test_xla_gives_the_same_intervals(self):
        network_of_steps = networks.network_of(networks.table()[1]["residual"]())
        box = fr.certification.reach_box(IMAGES, EPSILON)
        compiled = tf.function(lambda box: network_of_steps.intervals(box)[-1], jit_compile=True)
        for end, expected in zip(compiled(box), network_of_steps.intervals(box)[-1]):
            self.assertAllClose(end, expected, rtol=1e-4)

    def test_bad_input(self):
        model = network()
        labels = [0] * 6
        for error, options, message in (
            (ValueError, {"epsilon": -1.0}, "Expected `epsilon`.*-1"),
            (ValueError, {"method": "magic"}, "Expected `method`.*'auto'.*'magic'"),
            (ValueError, {"norm": "l2"}, "Expected `norm`.*'l2'"),
            (ValueError, {"budget": 0}, "Expected `budget`.*0"),
            (ValueError, {"batch_size": 0}, "Expected `batch_size`.*0"),
            (ValueError, {"labels": [0] * 5}, "Expected one label for each image"),
            (ValueError, {"labels": [3] * 6}, "Expected labels from 0 to 2"),
            (ValueError, {"images": IMAGES[:, :5]}, "Expected `images` of the shape"),
            (ValueError, {"images": IMAGES * np.nan}, "Expected finite images"),
            (ValueError, {"images": IMAGES[:0], "labels": []}, "Expected at least one image"),
            (TypeError, {"model": len}, "Expected `model` to be a keras.Model"),
        ):
            arguments = {"model": model, "images": IMAGES, "labels": labels, "epsilon": 0.1, **options}
            with self.assertRaisesRegex(error, message):
                fr.certify(**arguments)


if __name__ == "__main__":
    tf.test.main()

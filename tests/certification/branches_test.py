"""Tests of branch and bound, against the least values that small networks have."""

import itertools

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

import keras_flowreg as fr
from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.branches import minimum_by_branches
from keras_flowreg.certification.choices import Chooser, crowns_choice, stacked
from keras_flowreg.certification.forms import Choice
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.reach import Reach, reach
from keras_flowreg.certification.refutations import are_refuted
from keras_flowreg.certification.slopes import minimum_by_best_slopes
from keras_flowreg.certification.splits import Half, likely_splits, score, within
from tests.certification import networks

SHAPE = (1, 2, 1)
GRID = np.array(list(itertools.product(np.linspace(-1, 1, 201), repeat=2)), "float32")


def square(size=1):
    """All pairs of numbers from -1 to 1, for each of some examples."""
    return Reach(Interval(-tf.ones([size, *SHAPE]), tf.ones([size, *SHAPE])))


def network(activation, classes, depth=2):
    hidden = [part for _ in range(depth) for part in (layers.Dense(5), activation())]
    return networks.randomize(keras.Sequential([keras.Input(SHAPE), layers.Flatten(), *hidden, layers.Dense(classes)]))


def logits_on_grid(model):
    """Of all images of the square, but for what lies between them."""
    return model.predict(GRID.reshape(-1, *SHAPE), batch_size=len(GRID), verbose=0)


def prove(bounds, forms, is_over=lambda: False):
    return minimum_by_branches(bounds, forms, Chooser(bounds.network), is_over).numpy()


class BranchesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (layers.ReLU, 2, 6), (lambda: layers.LeakyReLU(0.2), 2, 6), (lambda: layers.Activation("swish"), 1, 3)
    )
    def test_proves_what_is_true_and_nothing_else(self, activation, depth, at_least):
        # Six logits are positive everywhere, by a twentieth of their range, and six are not.
        model = network(activation, 12, depth)
        size = np.ptp(logits_on_grid(model), axis=0)
        least = np.where(np.arange(12) < 6, 0.05, -0.002) * size
        model.layers[-1].bias.assign(model.layers[-1].bias + least - logits_on_grid(model).min(axis=0))
        bounds, forms = Bounds(networks.network_of(model), square(12)), tf.eye(12)[:, tf.newaxis]
        bounds.tighten()
        by_slopes = minimum_by_best_slopes(bounds, forms, Chooser(bounds.network), lambda: False)[:, 0].numpy()
        found = prove(bounds, forms)[:, 0]
        self.assertAllLessEqual(found - least - 1e-3 * size, 0)
        self.assertAllEqual(found[6:] > 0, [False] * 6)
        self.assertGreaterEqual(np.sum(found > 0), at_least)
        self.assertGreater(np.sum(found > 0), np.sum(by_slopes > 0))

    def test_examples_do_not_depend_on_others(self):
        hidden = [layers.Conv2D(count, 3, activation="relu") for count in (4, 3)]
        model, images = networks.chain(*hidden), networks.images(12)
        labels = model.predict(images, verbose=0).argmax(axis=1)
        whole = fr.certify(model, images, labels, 0.04)
        some = np.flatnonzero(whole.method == "beta_crown")
        self.assertNotEmpty(some)
        alone = fr.certify(model, images[some[-1:]], labels[some[-1:]], 0.04)
        self.assertAllClose(alone.margin[0], whole.margin[some[-1]], rtol=1e-3, atol=1e-3)
        self.assertEqual(alone.method[0], "beta_crown")

    def test_time_is_over(self):
        bounds = Bounds(networks.network_of(network(layers.ReLU, 3)), square())
        forms = tf.eye(3)[tf.newaxis]
        self.assertAllEqual(prove(bounds, forms, lambda: True), bounds.minimum(forms))
        asked = iter([False, True])
        once = prove(bounds, forms, lambda: next(asked))
        self.assertAllLessEqual(bounds.minimum(forms) - once, 0)

    def test_an_overflow_ends(self):
        model = network(layers.ReLU, 3)
        for weights in model.trainable_weights:
            weights.assign(weights * 1e20)
        bounds = Bounds(networks.network_of(model), square())
        self.assertAllEqual(prove(bounds, tf.eye(3)[tf.newaxis]) > 0, np.zeros([1, 3], bool))

    def test_nothing_to_cut(self):
        model = networks.randomize(keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3)]))
        bounds = Bounds(networks.network_of(model), square())
        self.assertAllClose(
            prove(bounds, tf.eye(3)[tf.newaxis])[0], logits_on_grid(model).min(axis=0), rtol=1e-4, atol=1e-4
        )


def ramp():
    """ReLU(x) and ReLU(x + 2) - 2, of the first pixel x."""
    hidden, last = layers.Dense(2, activation="relu"), layers.Dense(2)
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), hidden, last])
    model.set_weights([np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([0.0, 2.0]), np.eye(2), np.array([0.0, -2.0])])
    return model


class ScoreTest(tf.test.TestCase):
    def test_a_half_that_seems_looser_does_not_speak_against_a_split(self):
        proves_a_half = score([-1.0, 0.02], needed=0.02)
        self.assertGreater(proves_a_half, score([0.0, 0.01], needed=0.02))
        self.assertEqual(proves_a_half, score([0.0, 5.0], needed=0.02))


class MultipliersTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((True, 1.0), (False, -1.0))
    def test_closed_form(self, is_upper, sign):
        # The least of ±x over x ≥ 0, or of ±x over x ≤ 0, is 0; with a multiplier m it is that of ±x - m x, -|±1 - m|.
        bounds = Bounds(networks.network_of(ramp()), square())
        before_relu, relu = bounds.network.relus[0].inputs[0], bounds.network.relus[0].output
        half = within(bounds, [[Half(before_relu, 0, 0.0, is_upper)]])
        form, chooser = sign * tf.constant([[0.0, 1.0]]), Chooser(bounds.network)
        choice = crowns_choice(half)
        for multiplier in (0.0, 0.5, 1.0, 1.5):
            choice.multipliers[relu] = tf.constant([[sign * multiplier, 0.0]])
            self.assertAllClose(chooser.least(half, form, choice)[0], -abs(1 - multiplier), atol=1e-4)
        start = stacked([Choice({}, {relu: np.zeros([2], "float32")})], half)
        best = chooser.best(half, form, start, 40)
        self.assertAllClose(best.least[0], 0, atol=0.01)
        self.assertAllClose(chooser.least(half, form, best.choice)[0], best.least[0], atol=1e-5)

    def test_signs_of_what_is_not_assumed_are_zero(self):
        bounds = Bounds(networks.network_of(ramp()), square())
        relu = bounds.network.relus[0]
        half = within(bounds, [[Half(relu.inputs[0], 0, 0.0, True)]])
        wild = Choice({}, {relu.output: np.float32([-3.0, 3.0])})
        self.assertAllEqual(stacked([wild], half).multipliers[relu.output], [[0.0, 0.0]])
        wild = Choice({}, {relu.output: np.float32([3.0, -3.0])})
        self.assertAllEqual(stacked([wild], half).multipliers[relu.output], [[3.0, 0.0]])

    def test_halves_narrow_what_comes_behind(self):
        bounds = Bounds(networks.network_of(ramp()), square(2))
        relu = bounds.network.relus[0]
        halves = within(bounds, [[Half(relu.inputs[0], 0, 0.25, True)], [Half(relu.inputs[0], 1, 1.5, False)]])
        before, logits = halves.inputs(relu), halves.logits
        self.assertAllClose(before.low, [[0.25, 1.0], [-1.0, 1.0]], atol=1e-4)
        self.assertAllClose(before.high, [[1.0, 3.0], [1.0, 1.5]], atol=1e-4)
        self.assertAllClose(logits.low, [[0.25, -1.0], [0.0, -1.0]], atol=1e-4)
        self.assertAllClose(logits.high, [[1.0, 1.0], [1.0, -0.5]], atol=1e-4)


class LikelySplitsTest(tf.test.TestCase):
    def test_the_activation_that_is_in_the_way(self):
        # Of -ReLU(x), the chord loses on both halves; ReLU(x + 2) is a line on the square.
        bounds = Bounds(networks.network_of(ramp()), square())
        relu = bounds.network.relus[0]
        choice = crowns_choice(bounds)
        (splits,) = likely_splits(bounds, tf.constant([[-1.0, 1.0]]), choice, 5)
        self.assertEqual(splits, [tuple(Half(relu.inputs[0], 0, 0.0, is_upper) for is_upper in (False, True))])
        (splits,) = likely_splits(bounds, tf.constant([[0.0, 1.0]]), choice, 5)
        self.assertEqual(splits, [])


class RefutationsTest(tf.test.TestCase):
    def test_linear_models_are_refuted_if_they_can_be(self):
        images = networks.images(8)
        model = networks.chain()
        labels = model.predict(images, verbose=0).argmax(axis=1)
        forms = fr.certification.leads.lead_forms(tf.constant(labels, tf.int32), 3)
        for epsilon in (0.01, 0.05, 0.2):
            reachable = reach(images, epsilon, "linf")
            refuted = are_refuted(Bounds(networks.network_of(model), reachable), forms)
            margin = fr.certify(model, images, labels, epsilon, method="crown").margin
            self.assertAllEqual(refuted, margin <= 0)
        self.assertTrue(np.any(refuted))

    def test_where_linear_forms_are_least(self):
        for shape in ((4, 5, 1), (4, 5, 3)):
            images = networks.images(2, shape)
            coefficients = tf.random.stateless_normal([2, *shape], (0, 1))
            for epsilon in (0.3, 1.2):
                reachable = reach(images, epsilon, "linf")
                corner = reachable.minimizer(coefficients)
                found = tf.reduce_sum(coefficients * corner, axis=[1, 2, 3])
                least = reachable.minimum(fr.certification.windows.Window(coefficients), tf.range(2))
                self.assertAllClose(found, least, rtol=1e-3, atol=1e-3)
                self.assertAllInRange(corner - reachable.box.low, 0, 2)
                self.assertAllInRange(reachable.box.high - corner, 0, 2)


if __name__ == "__main__":
    tf.test.main()

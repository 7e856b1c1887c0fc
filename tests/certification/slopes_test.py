"""Tests of optimized slopes against the best ones, found by search."""

import itertools

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.choices import Chooser, crowns_choice, ranges
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.reach import Reach
from keras_flowreg.certification.slopes import minimum_by_best_slopes
from tests.certification import networks


def box():
    """All pairs of numbers from -1 to 1."""
    return Interval(-tf.ones([1, 1, 2, 1]), tf.ones([1, 1, 2, 1]))


def network():
    """ReLU(x + y) and ReLU(x - y), of which two outputs are made."""
    model = keras.Sequential(
        [keras.Input([1, 2, 1]), layers.Flatten(), layers.Dense(2, activation="relu"), layers.Dense(2)]
    )
    weights = ([[1.0, 1.0], [1.0, -1.0]], [0.2, -0.3], [[1.0, -1.0], [1.0, 0.0]], [0.1, 0.0])
    model.set_weights([np.array(part) for part in weights])
    return model


def by_best_slopes(bounds, forms, is_over=False):
    return minimum_by_best_slopes(bounds, forms, Chooser(bounds.network), lambda: is_over)


class SlopesTest(tf.test.TestCase):
    def test_the_best_of_all_slopes(self):
        # Below the sum of both ReLUs lie a(x + y + 0.2) + b(x - y - 0.3) + 0.1, for a and b from 0 to 1.
        tried = [
            0.1 + 0.2 * a - 0.3 * b - abs(a + b) - abs(a - b)
            for a, b in itertools.product(np.linspace(0, 1, 101), repeat=2)
        ]
        bounds = Bounds(networks.network_of(network()), Reach(box()))
        forms = tf.constant([[[1.0, 0.0]]])
        self.assertAllClose(bounds.minimum(forms)[0, 0], 0.1 + 0.2 - 1 - 1, atol=1e-4)  # a = 1 and b = 0
        self.assertAllClose(by_best_slopes(bounds, forms)[0, 0], max(tried), atol=1e-3)

    def test_the_range_of_slopes(self):
        for leak in (0.0, 0.2):
            model = networks.chain(layers.LeakyReLU(leak), shape=(1, 3, 1))
            low, high = (tf.reshape(tf.constant(end), [1, 1, 3, 1]) for end in ([-2.0, -2.0, 0.5], [-1.0, 1.0, 1.0]))
            bounds = Bounds(networks.network_of(model), Reach(Interval(low, high)))
            (found,) = ranges(bounds)[0].values()
            self.assertAllClose(np.ravel(found.low), [leak, leak, 1])
            self.assertAllClose(np.ravel(found.high), [leak, 1, 1])
            (slopes,) = crowns_choice(bounds).slopes.values()
            self.assertAllInRange(slopes - found.low, 0, 1)

    def test_never_less_than_without(self):
        images = networks.images(3)
        radius = 0.03
        for make in (networks.table()[1]["residual"], networks.table()[1]["leaky_relu"], networks.table()[1]["tanh"]):
            bounds = Bounds(networks.network_of(make()), Reach(Interval(images - radius, images + radius)))
            bounds.tighten()
            forms = tf.tile(tf.eye(3)[tf.newaxis], [3, 1, 1])
            crown, best = bounds.minimum(forms), by_best_slopes(bounds, forms)
            self.assertAllGreaterEqual(best - crown, 0)
            self.assertAllClose(tf.where(crown > 0, best, 0.0), tf.where(crown > 0, crown, 0.0))
            self.assertAllEqual(by_best_slopes(bounds, forms, is_over=True), crown)

    def test_bounds_of_some_examples(self):
        images = networks.images(3)
        whole = Bounds(networks.network_of(networks.table()[1]["relu"]()), Reach(Interval(images - 0.1, images + 0.1)))
        forms = tf.tile(tf.eye(3)[tf.newaxis], [3, 1, 1])
        chosen = whole.of(tf.constant([2, 0]))
        self.assertAllClose(chosen.minimum(forms[:2]), tf.gather(whole.minimum(forms), [2, 0]), rtol=1e-5)


if __name__ == "__main__":
    tf.test.main()

"""Tests of the seeded draws."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg.ops import random

DRAWS = {
    "uniform": lambda seed: random.uniform([200, 500], seed, -2.0, 3.0),
    "normal": lambda seed: random.normal([200, 500], seed, 2.0),
}


class RandomTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*DRAWS)
    def test_eager_graph_and_xla_draw_the_same(self, name):
        seed = tf.constant([3, 4])
        eager = DRAWS[name](seed)
        for jit_compile in (False, True):
            self.assertAllClose(tf.function(DRAWS[name], jit_compile=jit_compile)(seed), eager, rtol=1e-4, atol=1e-5)
        self.assertNotAllClose(DRAWS[name](random.fold_in(seed, 1)), eager)

    def test_uniform_distribution(self):
        draws = DRAWS["uniform"]([1, 2]).numpy()
        self.assertAllInRange(draws, -2, 3)
        self.assertAllClose(np.histogram(draws, 10, (-2, 3))[0] / draws.size, np.full(10, 0.1), atol=0.005)

    def test_a_normal_draw_is_finite(self):
        shape, seed = [128, 28, 28, 2], (0, 116)
        self.assertEqual(np.max(random.uniform(shape, seed, -1.0, 1.0)), 1)  # whose inverse would not be
        self.assertAllInRange(random.normal(shape, seed), -5.5, 5.5)

    def test_normal_distribution(self):
        draws = DRAWS["normal"]([1, 2]).numpy()
        self.assertTrue(np.isfinite(draws).all())
        self.assertAllClose([draws.mean(), draws.std()], [0, 2], atol=0.02)
        # The share within one, two and three standard deviations.
        shares = [np.mean(np.abs(draws) < 2 * k) for k in (1, 2, 3)]
        self.assertAllClose(shares, [0.6827, 0.9545, 0.9973], atol=0.005)


if __name__ == "__main__":
    tf.test.main()

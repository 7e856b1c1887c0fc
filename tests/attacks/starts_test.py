"""Tests of what is noted of random starts."""

import numpy as np
import tensorflow as tf

from keras_flowreg.attacks.starts import Starts


class StartsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.outcomes = np.random.default_rng(0).normal(-3.0, [[1.0], [0.1], [0.0]], [3, 8]).astype(np.float32)
        self.starts = Starts.none(tf.zeros([3]))
        for outcome in self.outcomes.T:
            self.starts = self.starts.add(tf.constant(outcome))

    def test_mean_and_deviation_are_numpys(self):
        self.assertAllClose(self.starts.mean, self.outcomes.mean(1))
        self.assertAllClose(tf.sqrt(self.starts.squares / 7), self.outcomes.std(1, ddof=1), atol=1e-6)

    def test_may_exceed(self):
        near = -self.outcomes[:2].mean(1) / self.outcomes[:2].std(1, ddof=1)
        for deviations in (0.0, 2.0, 4.0, 10.0, 100.0):
            self.assertAllEqual(self.starts.may_exceed(0.0, deviations), [*(near < deviations), False])

    def test_one_start_or_none_tells_nothing(self):
        none = Starts.none(tf.zeros([2]))
        self.assertAllEqual(none.add(tf.constant([-1.0, -2.0])).may_exceed(0.0, 10.0), [False, False])
        self.assertAllEqual(none.may_exceed(1.0, 10.0), [False, False])


if __name__ == "__main__":
    tf.test.main()

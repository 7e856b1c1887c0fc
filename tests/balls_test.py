"""Contract tests that every ball passes; a new ball is tested by adding its name to `balls.NORMS`."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg import balls

EPSILON = 0.7
SHAPE = [6, 3, 5, 2]


def inner(a, b):
    return tf.reduce_sum(tf.reshape(a * b, [SHAPE[0], -1]), axis=1)


def norms_by_hand(theta):
    pixels = np.sqrt((theta**2).sum(-1)).reshape(len(theta), -1)
    flat = theta.reshape(len(theta), -1)
    return {
        "linf": (np.abs(flat).max(1), np.abs(flat).sum(1)),
        "l2": (np.sqrt((flat**2).sum(1)),) * 2,
        "pixel_l2": (pixels.max(1), pixels.sum(1)),
    }


class BallContractTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.theta = np.random.RandomState(0).randn(*SHAPE).astype("float32")
        self.theta[1] *= 1e-3  # one example well inside each ball

    @parameterized.parameters(*balls.NORMS)
    def test_norm_and_dual_norm(self, name):
        ball = balls.get(name, EPSILON)
        norm, dual_norm = norms_by_hand(self.theta)[name]
        self.assertAllClose(ball.norm(self.theta), norm)
        self.assertAllClose(ball.dual_norm(self.theta), dual_norm, rtol=1e-5)

    @parameterized.parameters(*balls.NORMS)
    def test_steepest_ascent_attains_the_dual_norm_on_the_sphere(self, name):
        ball = balls.get(name, EPSILON)
        step = ball.steepest_ascent(tf.constant(self.theta))
        self.assertAllClose(ball.norm(step), [EPSILON] * SHAPE[0], rtol=1e-5)
        self.assertAllClose(inner(self.theta, step), EPSILON * ball.dual_norm(self.theta), rtol=1e-5)

    @parameterized.parameters(*balls.NORMS)
    def test_steepest_ascent_of_a_gradient_whose_square_is_zero(self, name):
        ball = balls.get(name, EPSILON)
        tiny = tf.constant(self.theta) * 1e-28  # what a cross-entropy leaves of it where a model is sure
        self.assertAllClose(ball.steepest_ascent(tiny), ball.steepest_ascent(tf.constant(self.theta)), atol=1e-6)

    @parameterized.parameters(*balls.NORMS)
    def test_no_point_of_the_ball_beats_steepest_ascent(self, name):
        ball = balls.get(name, EPSILON)
        best = inner(self.theta, ball.steepest_ascent(tf.constant(self.theta)))
        for seed in range(20):
            self.assertAllGreaterEqual(best - inner(self.theta, ball.sample(SHAPE, [seed, 0])), 0)

    @parameterized.parameters(*balls.NORMS)
    def test_projection(self, name):
        ball = balls.get(name, EPSILON)
        projected = ball.project(tf.constant(self.theta))
        self.assertAllLessEqual(ball.norm(projected), EPSILON * (1 + 1e-6))
        self.assertAllClose(ball.project(projected), projected, atol=1e-6)
        self.assertAllClose(projected[1], self.theta[1])
        # The nearest point: the rest makes an obtuse angle with every other point of the ball.
        for seed in range(20):
            other = ball.sample(SHAPE, [seed, 1])
            self.assertAllLessEqual(inner(self.theta - projected, other - projected), 1e-4)

    @parameterized.parameters(*balls.NORMS)
    def test_samples_fill_the_ball_and_repeat_with_their_seed(self, name):
        ball = balls.get(name, EPSILON)
        samples = ball.sample([4000, 1, 1, 2], [7, 7])
        self.assertAllEqual(samples, ball.sample([4000, 1, 1, 2], [7, 7]))
        self.assertNotAllEqual(samples, ball.sample([4000, 1, 1, 2], [7, 8]))
        inside = ball.norm(samples).numpy()
        self.assertAllLessEqual(inside, EPSILON * (1 + 1e-6))
        # In two dimensions half of the ball's area lies beyond ε / √2.
        self.assertAllClose(np.mean(inside > EPSILON / np.sqrt(2)), 0.5, atol=0.03)
        self.assertAllClose(np.mean(samples, axis=0), np.zeros([1, 1, 2]), atol=0.03)

    @parameterized.parameters(*balls.NORMS)
    def test_zero_gradient(self, name):
        ball = balls.get(name, EPSILON)
        zero = tf.zeros(SHAPE)
        self.assertAllEqual(ball.steepest_ascent(zero), zero)
        self.assertAllEqual(ball.project(zero), zero)
        with tf.GradientTape() as tape:
            tape.watch(zero)
            dual_norm = ball.dual_norm(zero)
        self.assertAllEqual(tape.gradient(dual_norm, zero), zero)

    @parameterized.parameters(*balls.NORMS)
    def test_configuration_round_trip_and_bad_input(self, name):
        ball = balls.get(name, EPSILON)
        self.assertEqual(type(ball).from_config(ball.get_config()).epsilon, EPSILON)
        for epsilon in (-0.1, float("nan"), float("inf"), "wide", None):
            with self.assertRaisesRegex(ValueError, "Expected `epsilon`"):
                balls.get(name, epsilon)
        with self.assertRaisesRegex(ValueError, "Expected `norm` to be one of 'linf'"):
            balls.get("l3", 1.0)


if __name__ == "__main__":
    tf.test.main()

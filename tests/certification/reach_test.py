"""Tests of the box of reachable pixels against a NumPy search of the ball."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.certification.reach import reach
from keras_flowreg.certification.windows import Window
from tests import oracle

SHAPE = (2, 4, 6, 2)
IMAGES = np.random.RandomState(0).rand(*SHAPE).astype("float32")
ROUNDING = 1e-5


def warped(displacement, images=IMAGES):
    return oracle.warp(images, np.broadcast_to(displacement, (*images.shape[:3], 2)))


def places(epsilon, norm):
    """A dense grid of displacements in the ball, with whole positions and its edge among them."""
    if norm == "linf":
        line = np.unique([*np.linspace(-epsilon, epsilon, 9), *range(-int(epsilon), int(epsilon) + 1)])
        return list(itertools.product(line, line))
    directions = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return [(r * np.sin(d), r * np.cos(d)) for r in np.linspace(0, epsilon, 5) for d in directions]


class ReachBoxTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.0, 0.3, 1.0, 1.6)
    def test_linf_is_what_a_search_finds(self, epsilon):
        tried = [warped(displacement) for displacement in places(epsilon, "linf")]
        box = fr.certification.reach_box(IMAGES, epsilon)
        self.assertAllClose(box.low, np.min(tried, axis=0), atol=ROUNDING)
        self.assertAllClose(box.high, np.max(tried, axis=0), atol=ROUNDING)
        self.assertAllGreater(np.min(tried, axis=0) - box.low, 0)  # Widened, against rounding.
        self.assertAllGreater(box.high - np.max(tried, axis=0), 0)

    @parameterized.parameters(0.0, 0.3, 1.0, 2.3)
    def test_pixel_l2_covers_what_a_search_finds(self, epsilon):
        tried = [warped(displacement) for displacement in places(epsilon, "pixel_l2")]
        box, square = (fr.certification.reach_box(IMAGES, epsilon, norm) for norm in ("pixel_l2", "linf"))
        self.assertAllGreaterEqual(np.min(tried, axis=0) - box.low, 0)
        self.assertAllGreaterEqual(box.high - np.max(tried, axis=0), 0)
        # And it is nearly tight, and within the square around the disc.
        width = np.max(tried, axis=0) - np.min(tried, axis=0)
        self.assertLessEqual(np.mean(box.high - box.low - width), 0.1 * np.mean(width) + ROUNDING)
        self.assertAllGreaterEqual(box.low - square.low, -1e-6)
        self.assertAllGreaterEqual(square.high - box.high, -1e-6)

    def test_long_displacements_reach_every_pixel(self):
        box = fr.certification.reach_box(IMAGES[..., :1], 6.0)
        least = np.min(IMAGES[..., :1], axis=(1, 2), keepdims=True)
        self.assertAllClose(box.low, np.broadcast_to(least, [2, 4, 6, 1]), atol=ROUNDING)

    def test_no_attack_leaves_it(self):
        images = IMAGES.repeat(4, axis=0)
        box = fr.certification.reach_box(images, 0.7)
        for seed in range(20):
            flow = fr.balls.LInfBall(0.7).sample([8, 4, 6, 2], (0, seed))
            attacked = fr.ops.dense_image_warp(images, flow)
            self.assertAllLessEqual(tf.maximum(box.low - attacked, attacked - box.high), 0.0)

    @parameterized.parameters("linf", "pixel_l2")
    def test_least_linear_form_ties_the_channels(self, norm):
        coefficients = np.random.RandomState(1).randn(3, *SHAPE[1:]).astype("float32")
        examples = np.array([1, 0, 1])
        values = [np.sum(coefficients * warped(place)[examples], axis=-1) for place in places(0.7, norm)]
        searched = np.sum(np.min(values, axis=0), axis=(1, 2))
        least = reach(IMAGES, 0.7, norm).minimum(Window(coefficients), examples)
        untied = fr.certification.reach_box(IMAGES, 0.7, norm).of(examples).minimum(coefficients)
        self.assertAllLessEqual(least - searched, 0)
        self.assertAllLess(untied - least, -0.5)
        if norm == "linf":
            self.assertAllClose(least, searched, atol=1e-3)

    def test_large_values_are_widened_more(self):
        box = fr.certification.reach_box(255 * IMAGES, 0.0)
        largest, span = 255 * IMAGES.max(axis=(1, 2, 3)), 255 * np.ptp(IMAGES, axis=(1, 2, 3))
        expected = np.reshape(5e-7 * largest + 2**-19 * span, [-1, 1, 1, 1])
        self.assertAllClose(box.high - 255 * IMAGES, np.broadcast_to(expected, SHAPE), rtol=0.1)

    @parameterized.product(size=[28, 32, 40, 64], least=[0.0, -1.0], implementation=["native", "auto"])
    def test_no_implementation_of_the_warp_leaves_it(self, size, least, implementation):
        board = np.indices([size, size]).sum(axis=0) % 2
        images = np.float32(board * (1 - least) + least)[np.newaxis, ..., np.newaxis]
        random = np.random.RandomState(0)
        for epsilon in (1e-6, 1e-3, 3e-3, 0.01, *random.uniform(0, 0.02, 10)):
            box = fr.certification.reach_box(images, float(epsilon))
            flow = np.float32(epsilon * random.choice([-1, 1], [1, size, size, 2]))
            attacked = fr.ops.dense_image_warp(images, flow, implementation=implementation)
            self.assertAllLessEqual(tf.maximum(box.low - attacked, attacked - box.high), 0.0)

    def test_bad_input(self):
        for epsilon, norm, images, message in (
            (-0.1, "linf", IMAGES, "Expected `epsilon`.*-0.1"),
            (0.1, "l2", IMAGES, "Expected `norm`.*'l2'"),
            (7.0, "linf", IMAGES, "Expected `epsilon`.*at most 6.*7"),
            (40.0, "linf", np.zeros([1, 50, 50, 1], "float32"), "Expected `epsilon` of at most 31 pixels.*40"),
            (0.1, "linf", IMAGES * np.nan, "Expected finite images"),
            (0.1, "linf", IMAGES[0], "Expected `images` to have the shape"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                fr.certification.reach_box(images, epsilon, norm)


if __name__ == "__main__":
    tf.test.main()

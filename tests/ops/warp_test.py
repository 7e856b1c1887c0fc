"""Tests of the bilinear warp and its derivatives against a NumPy oracle and TensorFlow Addons."""

import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg import compat
from keras_flowreg.ops import dense_image_warp, dense_image_warp_with_gradients, image_gradients
from tests import oracle

native_warp = functools.partial(dense_image_warp, implementation="native")
RULES = ("forward", "backward", "central")


def example(channels=3, seed=0, dtype=np.float32):
    """Images and a flow that mixes fractions, integers (the kinks), zeros and positions outside."""
    random = np.random.RandomState(seed)
    images = random.rand(2, 5, 7, channels).astype(dtype)
    flow = random.uniform(-2.5, 2.5, [2, 5, 7, 2])
    kinks = random.rand(*flow.shape) < 0.4
    flow[kinks] = np.round(flow[kinks])
    return images, flow.astype(dtype)


class WarpTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(channels=[1, 3], lattice=RULES)
    def test_values_and_gradients_are_the_oracles(self, channels, lattice):
        images, flow = example(channels)
        output, gradients = dense_image_warp_with_gradients(images, flow, lattice)
        self.assertAllClose(output, oracle.warp(images, flow), atol=1e-5)
        self.assertAllClose(gradients, oracle.image_gradients(images, flow, lattice), atol=1e-5)
        self.assertAllClose(native_warp(images, flow, lattice), oracle.warp(images, flow), atol=1e-5)

    @parameterized.product(lattice=RULES, implementation=["native", "auto"])
    def test_tape_gives_the_analytic_flow_gradient(self, lattice, implementation):
        images, flow = map(tf.constant, example())
        upstream = tf.random.stateless_normal(images.shape, [1, 2])
        with tf.GradientTape() as tape:
            tape.watch(flow)
            output = dense_image_warp(images, flow, lattice, implementation)
        gradient = tape.gradient(output, flow, output_gradients=upstream)
        expected = oracle.flow_gradients(images.numpy(), flow.numpy(), upstream.numpy(), lattice)
        self.assertAllClose(gradient, expected, atol=1e-5)

    @parameterized.parameters("native", "auto")
    def test_gradient_to_the_images_is_the_adjoint(self, implementation):
        images, flow = map(tf.constant, example())
        upstream = tf.random.stateless_normal(images.shape, [3, 4])
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = dense_image_warp(images, flow, implementation=implementation)
        gradient = tape.gradient(output, images, output_gradients=upstream)
        # The warp is linear in the image: <gradient, x> = <upstream, warp(x)> for every x.
        other = np.random.RandomState(5).rand(*images.shape).astype("float32")
        self.assertAllClose(
            tf.reduce_sum(gradient * other), tf.reduce_sum(upstream * native_warp(other, flow)), rtol=1e-4
        )

    @parameterized.product(dtype=["float16", "bfloat16", "float32", "float64"], lattice=RULES)
    def test_dtypes(self, dtype, lattice):
        images, flow = (tf.cast(value, dtype) for value in example(dtype=np.float64))
        output, gradients = dense_image_warp_with_gradients(images, flow, lattice)
        self.assertEqual([output.dtype, gradients.dtype], [images.dtype] * 2)
        self.assertEqual(native_warp(images, flow, lattice).dtype, images.dtype)
        exact = [tf.cast(value, tf.float64).numpy() for value in (images, flow)]
        tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
        self.assertAllClose(tf.cast(output, tf.float64), oracle.warp(*exact), atol=tolerance)
        self.assertAllClose(tf.cast(gradients, tf.float64), oracle.image_gradients(*exact, lattice), atol=2 * tolerance)

    @parameterized.product(implementation=["native", "auto"], dtype=[tf.float16, tf.bfloat16])
    def test_half_precision_flow_keeps_its_fraction_on_a_large_image(self, implementation, dtype):
        ramp = tf.tile(tf.range(2048.0)[tf.newaxis, tf.newaxis, :, tf.newaxis], [1, 2, 1, 1])
        flow = tf.fill([1, 2, 2048, 2], tf.constant(-0.25, dtype))
        moved = dense_image_warp(ramp, flow, implementation=implementation) - ramp
        self.assertAllClose(moved[0, 0, :-1, 0], tf.fill([2047], 0.25))

    @parameterized.product(lattice=RULES, jit_compile=[False, True])
    def test_unknown_shapes_in_a_graph(self, lattice, jit_compile):
        images, flow = example()
        signature = [tf.TensorSpec([None] * 4, tf.float32), tf.TensorSpec(None, tf.float32)]
        warp = tf.function(
            lambda x, f: dense_image_warp_with_gradients(x, f, lattice), signature, jit_compile=jit_compile
        )
        output, gradients = warp(images, flow)
        self.assertAllClose(output, oracle.warp(images, flow), atol=1e-5)
        self.assertAllClose(gradients, oracle.image_gradients(images, flow, lattice), atol=1e-5)

    @parameterized.parameters(*RULES)
    def test_image_gradients_are_those_of_the_warp_at_zero_flow(self, lattice):
        images, _ = example()
        zero = np.zeros([2, 5, 7, 2], "float32")
        self.assertAllClose(image_gradients(images, lattice), oracle.image_gradients(images, zero, lattice), atol=1e-6)
        self.assertAllClose(image_gradients(images, lattice), dense_image_warp_with_gradients(images, zero, lattice)[1])

    def test_two_sided_image_gradients_are_both_one_sided_ones(self):
        images, _ = example()
        both = image_gradients(images, "two_sided")
        self.assertAllEqual(both[0], image_gradients(images, "forward"))
        self.assertAllEqual(both[1], image_gradients(images, "backward"))

    def test_ramp_has_slope_one_inside_and_zero_over_its_border(self):
        ramp = np.tile(np.arange(6.0)[np.newaxis, np.newaxis, :, np.newaxis], [1, 3, 1, 1])
        slopes = {rule: image_gradients(ramp, rule)[0, 1, :, 0, 1].numpy() for rule in RULES}
        self.assertAllEqual(slopes["forward"], [1, 1, 1, 1, 1, 0])
        self.assertAllEqual(slopes["backward"], [0, 1, 1, 1, 1, 1])
        self.assertAllEqual(slopes["central"], [0.5, 1, 1, 1, 1, 0.5])

    def test_zero_flow_is_the_identity_and_a_whole_flow_a_shift(self):
        images, _ = example()
        zero = np.zeros([2, 5, 7, 2], "float32")
        self.assertAllEqual(native_warp(images, zero), images)
        one_down = zero + np.array([1, 0], "float32")
        self.assertAllEqual(native_warp(images, one_down)[:, 1:], images[:, :-1])
        self.assertAllEqual(native_warp(images, one_down)[:, 0], images[:, 0])

    def test_far_flows(self):
        images, _ = example()
        for far, edge in ((1e30, images[:, :1, :1]), (-1e30, images[:, -1:, -1:])):
            output, gradients = dense_image_warp_with_gradients(images, np.full([2, 5, 7, 2], far, "float32"))
            self.assertAllEqual(output, np.broadcast_to(edge, images.shape))
            self.assertAllEqual(gradients, np.zeros_like(gradients))

    def test_flows_that_are_not_finite(self):
        images, flow = example()
        for value in (np.nan, np.inf, -np.inf):
            flow[0, 1, 2, 0] = value
            with self.assertRaisesRegex(ValueError, "Expected finite flow. Received NaN or infinity"):
                native_warp(images, flow)
            # A graph cannot tell. There NaN stays NaN.
            output = tf.function(native_warp)(images, flow)
            self.assertEqual(np.isnan(output[0, 1, 2]).all(), np.isnan(value))

    def test_bad_input(self):
        images, flow = example()
        with self.assertRaisesRegex(ValueError, r"Expected `images` .*\[batch, height, width, channels\].*\(5, 7, 3\)"):
            native_warp(images[0], flow)
        with self.assertRaisesRegex(ValueError, r"Expected `flow` .*\(2, 5, 7, 2\).*\(2, 7, 5, 2\)"):
            native_warp(images, flow.transpose(0, 2, 1, 3))
        with self.assertRaisesRegex(ValueError, "height of at least 2"):
            native_warp(images[:, :1], flow[:, :1])
        with self.assertRaisesRegex(ValueError, "width of at least 2"):
            image_gradients(images[:, :, :1])
        with self.assertRaisesRegex(TypeError, "Expected `images` to be floating.*uint8"):
            native_warp((255 * images).astype("uint8"), flow)
        with self.assertRaisesRegex(TypeError, "Expected `flow` to be floating.*int64"):
            native_warp(images, flow.astype("int64"))
        with self.assertRaisesRegex(ValueError, "Expected `lattice` .*'centre'"):
            image_gradients(images, "centre")
        with self.assertRaisesRegex(ValueError, "Expected `implementation` .*'cuda'"):
            dense_image_warp(images, flow, implementation="cuda")


class TensorFlowAddonsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.tfa_warp = compat.tfa_dense_image_warp()
        if self.tfa_warp is None:
            self.skipTest("TensorFlow Addons is not installed beside Keras 2.")

    def test_values_are_those_of_tensorflow_addons(self):
        images, flow = example()
        self.assertAllClose(native_warp(images, flow), self.tfa_warp(images, flow), atol=1e-5)
        self.assertAllEqual(dense_image_warp(images, flow, implementation="tfa"), self.tfa_warp(images, flow))

    def test_tape_through_tensorflow_addons_agrees_between_integer_positions(self):
        images, _ = example()
        flow = tf.constant(np.random.RandomState(1).uniform(-1.9, 1.9, [2, 5, 7, 2]), tf.float32)
        upstream = tf.random.stateless_normal(images.shape, [1, 2])
        with tf.GradientTape() as tape:
            tape.watch(flow)
            output = self.tfa_warp(images, flow)
        literal = tape.gradient(output, flow, output_gradients=upstream)
        analytic = oracle.flow_gradients(images, flow.numpy(), upstream.numpy(), "central")
        self.assertAllClose(literal, analytic, atol=1e-5)

    def test_the_defect_that_the_layer_repairs(self):
        images, _ = map(tf.constant, example())
        flow = tf.zeros([2, 5, 7, 2])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(flow)
            literal = self.tfa_warp(images, flow)
            repaired = dense_image_warp(images, flow, implementation="tfa")
        self.assertAllEqual(tape.gradient(literal, flow)[:, :-1, :-1], tf.zeros([2, 4, 6, 2]))
        expected = oracle.flow_gradients(images.numpy(), flow.numpy(), np.ones(images.shape), "central")
        self.assertAllClose(tape.gradient(repaired, flow), expected, atol=1e-5)


class WithoutTensorFlowAddonsTest(tf.test.TestCase):
    def test_asking_for_it_is_an_error(self):
        if compat.tfa_dense_image_warp() is not None:
            self.skipTest("TensorFlow Addons is installed.")
        images, flow = example()
        with self.assertRaisesRegex(ValueError, "Expected TensorFlow Addons to be installed"):
            dense_image_warp(images, flow, implementation="tfa")


if __name__ == "__main__":
    tf.test.main()

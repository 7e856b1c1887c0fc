"""Tests of flow statistics against counts by hand."""

import numpy as np
import tensorflow as tf

import keras_flowreg as fr


class FlowsTest(tf.test.TestCase):
    def test_a_single_pixel_has_no_neighbours(self):
        self.assertAllEqual(fr.ops.displacement_statistics(tf.ones([2, 1, 1, 2])).roughness, [0, 0])

    def test_translation_is_not_rough(self):
        flow = tf.tile(tf.constant([[[[3.0, 4.0]]]]), [2, 5, 6, 1])
        statistics = fr.ops.displacement_statistics(flow)
        self.assertAllClose(statistics.median, [5, 5])
        self.assertAllClose(statistics.largest, [5, 5])
        self.assertAllClose(statistics.roughness, [0, 0])
        self.assertAllClose(fr.ops.flow_smoothness_loss(flow), [0, 0])

    def test_one_moved_pixel(self):
        flow = np.zeros([1, 4, 5, 2], "float32")
        flow[0, 1, 2] = [0.6, 0.8]
        statistics = fr.ops.displacement_statistics(flow)
        self.assertAllClose(statistics.median, [0])
        self.assertAllClose(statistics.largest, [1])
        # Four of the 3 · 5 + 4 · 4 pairs of neighbours differ by 1.
        self.assertAllClose(statistics.roughness, [4 / 31])
        self.assertAllClose(fr.ops.flow_smoothness_loss(flow), [8])

    def test_median_is_numpys(self):
        for width in (4, 5):
            flow = np.random.RandomState(0).randn(3, 5, width, 2).astype("float32")
            expected = np.median(np.linalg.norm(flow, axis=-1).reshape(3, -1), axis=1)
            self.assertAllClose(fr.ops.displacement_statistics(flow).median, expected)

    def test_smoothness_has_a_finite_gradient_at_zero(self):
        flow = tf.Variable(tf.zeros([1, 4, 4, 2]))
        with tf.GradientTape() as tape:
            loss = fr.ops.flow_smoothness_loss(flow)
        self.assertAllEqual(tape.gradient(loss, flow), tf.zeros_like(flow))

    def test_flows_of_no_known_shape_are_measured_all_the_same(self):
        measured = tf.function(fr.ops.displacement_statistics, input_signature=[tf.TensorSpec(None)])
        flow = tf.random.stateless_normal([2, 4, 5, 2], seed=[0, 1])
        for known, unknown in zip(fr.ops.displacement_statistics(flow), measured(flow)):
            self.assertAllClose(known, unknown)

    def test_what_is_no_flow(self):
        for function in (fr.ops.displacement_statistics, fr.ops.flow_smoothness_loss):
            with self.assertRaisesRegex(ValueError, r"Expected `flow` to have the shape \[batch, height, width, 2\], "):
                function(tf.zeros([2, 4, 5, 3]))
            with self.assertRaisesRegex(TypeError, "Expected `flow` to be floating-point"):
                function(tf.zeros([2, 4, 5, 2], tf.int32))


if __name__ == "__main__":
    tf.test.main()

"""Tests of the first-order bounds: the slope of the steepest flow, and Hölder's inequality by hand."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from tests import testing


def mean_loss(labels, predictions):
    """A loss that is linear in the predictions."""
    return tf.reduce_sum(predictions, axis=1)


def linear_model(kernel):
    inputs = keras.Input(kernel.shape)
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(keras.layers.Flatten()(inputs)))
    model.set_weights([kernel.reshape(-1, 1).astype("float32")])
    return model


class FirstOrderBoundsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("linf", "pixel_l2")
    def test_flow_bound_is_the_greatest_slope(self, norm):
        # Each pixel moves on its own: of the eight signed directions and rests the best is the one-sided rise.
        random = np.random.RandomState(0)
        kernel, image = random.randn(4, 5, 2), random.rand(4, 5, 2).astype("float32")
        model, step = linear_model(kernel), 1e-2
        rises = np.zeros([4, 5, 2])
        for axis in (0, 1):
            for sign in (-1, 1):
                flow = np.zeros([1, 4, 5, 2], "float32")
                flow[..., axis] = sign * step
                change = fr.ops.dense_image_warp(image[None], flow)[0].numpy() - image
                # A linear loss adds up over pixels.
                rises[..., axis] = np.maximum(rises[..., axis], np.sum(kernel * change, axis=-1) / step)
        expected = rises.sum() if norm == "linf" else np.linalg.norm(rises, axis=-1).sum()
        bounds = fr.first_order_bounds(model, image[None], [0], 0.3, mean_loss, norm=norm)
        self.assertAllClose(bounds.flow, [0.3 * expected], rtol=1e-4)

    def test_input_bound_by_hand(self):
        # One row of three pixels, 0, 1, 1: a flow changes the first two by up to ε, and nothing else.
        image = np.array([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]], "float32")[None, ..., None]
        kernel = np.array([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])[..., None]
        bounds = fr.first_order_bounds(linear_model(kernel), image, [0], 0.5, mean_loss)
        # ‖∂loss/∂x‖: ℓ1 7, ℓ2 5, ℓ∞ 4; ‖δ‖: ℓ∞ 1, ℓ2 2, ℓ1 4.
        self.assertAllClose(bounds.input, [0.5 * min(7 * 1, 5 * 2, 4 * 4)])
        # Only the first pixel is read and can change, upwards.
        self.assertAllClose(bounds.flow, [0.5 * 3])

    def test_exact_for_a_linear_model_and_a_vertical_edge(self):
        image = np.tile(np.random.RandomState(0).rand(1, 1, 6, 1), [1, 4, 1, 1]).astype("float32")
        kernel = np.random.RandomState(1).randn(4, 6, 1)
        model = linear_model(kernel)
        bound = fr.first_order_bounds(model, image, [0], 0.4, mean_loss).flow
        values = [
            np.sum(kernel * fr.ops.dense_image_warp(image, np.full([1, 4, 6, 2], shift, "float32"))[0], axis=-1)
            for shift in (-0.4, 0.0, 0.4)
        ]
        # The warp is linear on either side: the worst flow picks the better side for each pixel.
        self.assertAllClose(bound, [np.sum(np.max(values, axis=0) - values[1])], rtol=1e-4)

    @parameterized.product(norm=["linf", "pixel_l2"], seed=[0, 1])
    def test_flow_bound_is_never_above_the_input_bound(self, norm, seed):
        images, labels = testing.data(32)
        keras.utils.set_random_seed(seed)
        model = testing.network()
        bounds = fr.first_order_bounds(model, images, labels, 0.2, testing.cross_entropy(), norm=norm)
        self.assertAllLess(bounds.flow - bounds.input, 0)
        self.assertAllGreater(bounds.flow, 0)

    def test_no_attack_of_a_small_radius_exceeds_it(self):
        images, labels = testing.data(32)
        model = testing.network()
        loss = testing.cross_entropy()
        bound = fr.first_order_bounds(model, images, labels, 0.01, loss).flow
        attack = fr.attacks.FlowFrankWolfe(0.01)
        result = attack.run(images, labels, model=model, loss=loss, stop_when_fooled=False)
        rise = result.loss - result.clean_loss
        attacked = ~result.clean_success.numpy()
        self.assertAllLess((rise / bound)[attacked], 1.02)
        # And it is tight: the attack comes near it.
        self.assertGreater(np.median((rise / bound)[attacked]), 0.95)

    def test_bad_input(self):
        images, labels = testing.data(4)
        model, loss = testing.network(), testing.cross_entropy()
        with self.assertRaisesRegex(ValueError, "Expected `epsilon`.*-1"):
            fr.first_order_bounds(model, images, labels, -1, loss)
        with self.assertRaisesRegex(ValueError, "Expected `norm`.*'l2'"):
            fr.first_order_bounds(model, images, labels, 1, loss, norm="l2")
        with self.assertRaisesRegex(ValueError, "Expected a loss"):
            fr.first_order_bounds(model, images, labels, 1)


if __name__ == "__main__":
    tf.test.main()

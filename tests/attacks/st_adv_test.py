"""Tests of StAdv: Adam against NumPy on a linear model, and the search for the smoothest flow."""

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from tests import oracle, testing

WEIGHT = 0.02  # of the smoothness


def linear_model(images, seed=0):
    """A linear model whose margin on the images is negative, for label 0."""
    inputs = keras.Input(images.shape[1:])
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    kernel = np.random.RandomState(seed).randn(images[0].size, 2).astype("float32")
    logits = images.reshape(len(images), -1) @ kernel
    model.set_weights([kernel, np.array([0.0, -1.0 - (logits[:, 1] - logits[:, 0]).max()], "float32")])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def smoothness_gradient(flow):
    """Of Σ_p Σ_{q ∈ N(p)} ‖f_p - f_q‖, pair by pair."""
    gradient = np.zeros_like(flow)
    _, height, width, _ = flow.shape
    for i in range(height):
        for j in range(width):
            for di, dj in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                if 0 <= i + di < height and 0 <= j + dj < width:
                    difference = flow[:, i, j] - flow[:, i + di, j + dj]
                    length = np.linalg.norm(difference, axis=1, keepdims=True)
                    # Each pair is met from both of its ends.
                    gradient[:, i, j] += 2 * np.where(length > 0, difference / np.maximum(length, 1e-30), 0)
    return gradient


def descend(images, direction, steps, learning_rate):
    """Adam on the negative margin of a linear model with the kernel difference `direction`."""
    flow = np.zeros([*images.shape[:3], 2])
    first, second = np.zeros_like(flow), np.zeros_like(flow)
    for step in range(1, steps + 1):
        gradient = -oracle.flow_gradients(images, flow, np.broadcast_to(direction, images.shape), "central")
        gradient += WEIGHT * smoothness_gradient(flow)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        flow -= learning_rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return flow


class StAdvTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.images = np.random.RandomState(1).rand(3, 5, 6, 1)
        self.labels = np.zeros(3, int)

    def test_descent_is_adams(self):
        # In float64: Adam's first steps divide a gradient by itself, however small it is.
        model = linear_model(self.images.astype("float32"))
        kernel = model.get_weights()[0].astype(float)
        direction = (kernel[:, 1] - kernel[:, 0]).reshape(1, 5, 6, 1)
        attack = fr.attacks.StAdv(steps=3, learning_rate=0.01, smoothness_range=(WEIGHT, WEIGHT), searches=1)
        result = attack.run(tf.constant(self.images), self.labels, model=model, stop_when_fooled=False)
        self.assertFalse(np.any(result.success))
        expected = descend(self.images, direction, 3, 0.01)
        self.assertGreater(np.mean(np.abs(result.flow - expected) < 1e-4), 0.98)

    def test_more_searches_find_smoother_flows(self):
        images, _ = testing.data(16)
        model = testing.network()
        labels = np.argmax(model(images), axis=1)
        roughness = []
        for searches in (1, 2, 5):
            result = fr.attacks.StAdv(steps=60, searches=searches, smoothness_range=(1e-5, 1e-2)).run(
                images, labels, model=model
            )
            self.assertGreater(np.mean(result.success), 0.9)
            self.assertAllEqual(result.success, np.argmax(model(result.images), axis=1) != labels)
            roughness.append(fr.ops.flow_smoothness_loss(result.flow).numpy()[result.success])
        self.assertAllLessEqual(roughness[1] - roughness[0], 1e-4)
        self.assertAllLessEqual(roughness[2] - roughness[1], 1e-4)
        self.assertLess(np.mean(roughness[2]), 0.9 * np.mean(roughness[0]))

    def test_the_smoothest_flow_is_a_translation(self):
        # A ramp, read at every inner pixel alike: a translation raises the margin as fast as any flow.
        images = np.tile(np.linspace(0, 1, 11, dtype="float32")[None, None, :, None], [1, 6, 1, 1])
        inputs = keras.Input(images.shape[1:])
        model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
        reader = np.zeros([6, 11], "float32")
        reader[1:-1, 3:-3] = 1
        brightness = float(np.sum(reader * images[0, :, :, 0]))
        # Fooled by a shift of 0.5 pixels, each of which lowers the reading by 0.1.
        bias = -(brightness - 0.05 * reader.sum())
        model.set_weights([np.stack([reader.ravel(), 0 * reader.ravel()], axis=1), np.array([bias, 0], "float32")])
        # Only a stiff field moves the unread pixels along.
        result = fr.attacks.StAdv(steps=300, learning_rate=0.02, smoothness_range=(0.001, 0.1), searches=6).run(
            images, np.array([0]), model=model
        )
        self.assertAllEqual(result.success, [True])
        inner = result.flow[0, 1:-1, 3:-3].numpy()
        self.assertAllClose(inner[..., 1].mean(), 0.5, atol=0.03)
        self.assertAllClose(inner[..., 1], np.full_like(inner[..., 1], 0.5), atol=0.1)

    def test_bad_options(self):
        for options, message in (
            ({"steps": 0}, "Expected `steps`.*0"),
            ({"smoothness_range": (1.0, 0.1)}, r"Expected `smoothness_range` to be \(least, greatest\)"),
            ({"smoothness_range": (0.0, 0.1)}, "Expected `smoothness_range`"),
            ({"learning_rate": 0}, "Expected `learning_rate`"),
            ({"searches": 0}, "Expected `searches`"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                fr.attacks.StAdv(**options)


if __name__ == "__main__":
    tf.test.main()

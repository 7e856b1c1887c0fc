"""Tests of max pooling's derivatives, against NumPy's search for each window's largest value."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg.ops.pooling import max_pool

WRAPPERS = {"eager": lambda f: f, "graph": tf.function, "xla": lambda f: tf.function(f, jit_compile=True)}


def places(images, size, strides, padding):
    """`[batch, new height, new width, channels]` of the first largest value's (row, column)."""
    batch, height, width, channels = images.shape
    if padding == "VALID":
        news = [(side - length) // step + 1 for side, length, step in zip((height, width), size, strides)]
        before = (0, 0)
    else:
        news = [-(-side // step) for side, step in zip((height, width), strides)]
        before = [
            max((new - 1) * step + length - side, 0) // 2
            for new, step, length, side in zip(news, strides, size, (height, width))
        ]
    found = np.zeros([batch, *news, channels, 2], int)
    for b, i, j, c in np.ndindex(batch, *news, channels):
        candidates = [
            (row, column)
            for row in range(i * strides[0] - before[0], i * strides[0] - before[0] + size[0])
            for column in range(j * strides[1] - before[1], j * strides[1] - before[1] + size[1])
            if 0 <= row < height and 0 <= column < width
        ]
        found[b, i, j, c] = max(candidates, key=lambda place: images[b, place[0], place[1], c])
    return found


def take(values, found):
    """The values at those places."""
    batch, height, width, channels, _ = found.shape
    b, _, _, c = np.ogrid[:batch, :height, :width, :channels]
    return values[b, found[..., 0], found[..., 1], c]


class MaxPoolTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        windows=[((2, 2), (2, 2)), ((3, 2), (3, 2)), ((2, 2), (3, 4)), ((3, 3), (2, 2)), ((3, 2), (1, 1))],
        side=[8, 9],
        padding=["VALID", "SAME"],
        wrapper=sorted(WRAPPERS),
    )
    def test_value_and_derivatives_of_both_orders(self, windows, side, padding, wrapper):
        size, strides = windows
        random = np.random.RandomState(0)
        # Many windows have a tie at zero, as behind ReLU: the first place is taken.
        images = np.maximum(random.randn(2, side, 8, 3), 0).astype("float32")
        second = random.randn(*images.shape).astype("float32")
        found = places(images, size, strides, padding)
        upstream = random.randn(*found.shape[:-1]).astype("float32")

        def measure():
            inputs, ups = tf.constant(images), tf.constant(upstream)
            with tf.GradientTape() as outer:
                outer.watch([inputs, ups])
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    output = max_pool(inputs, size, strides, padding)
                first = inner.gradient(output, inputs, output_gradients=ups)
            of_inputs, of_upstream = outer.gradient(
                first, [inputs, ups], output_gradients=second, unconnected_gradients="zero"
            )
            return output, first, of_inputs, of_upstream

        output, first, of_inputs, of_upstream = WRAPPERS[wrapper](measure)()
        self.assertAllEqual(output, take(images, found))
        scattered = np.zeros_like(images)
        batch, height, width, channels, _ = found.shape
        b, _, _, c = np.ogrid[:batch, :height, :width, :channels]
        np.add.at(scattered, (b, found[..., 0], found[..., 1], c), upstream)
        self.assertAllEqual(first, scattered)
        self.assertAllEqual(of_inputs, np.zeros_like(images))
        self.assertAllClose(of_upstream, take(second, found), atol=1e-6)


if __name__ == "__main__":
    tf.test.main()

"""Max pooling whose second derivative is in closed form.

The derivative of max pooling sends a window's upstream g to its largest value: it is linear in g, and constant in the
values but where two tie. So its own derivative takes, of an upstream v, the value at that place. Where windows do not
overlap the place is marked by the derivative for g = 1, and v is taken there by an average over the window.

TensorFlow's own operation for this is slow on a CPU; XLA's gives other values, and has no half precision
(tensorflow/tensorflow#11435).
"""

from collections.abc import Sequence

import tensorflow as tf

from keras_flowreg.types import Images


def windows_overlap(size: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether windows of a size, some strides apart, share values. Both are `(height, width)`."""
    return any(step < side for side, step in zip(size, strides))


def max_pool(images: Images, size: Sequence[int], strides: Sequence[int], padding: str) -> tf.Tensor:
    """The largest value of each window, channel by channel.

    Args:
      images: floating `[batch, height, width, channels]`.
      size: `(height, width)` of a window.
      strides: how far it is from one window to the next, down and right.
      padding: `"valid"` or `"same"`.

    Returns:
      `[batch, new height, new width, channels]`, in the dtype of `images`.

    Raises:
      ValueError: if the windows overlap.
    """
    if windows_overlap(size, strides):
        raise ValueError(f"Expected windows that do not overlap. Received: size={size}, strides={strides}")

    def average(images):
        return tf.nn.avg_pool2d(images, size, strides, padding.upper())

    @tf.custom_gradient
    def differentiable(images):
        output = tf.nn.max_pool2d(images, size, strides, padding.upper())

        def scatter(upstream):
            return tf.raw_ops.MaxPoolGrad(
                orig_input=images,
                orig_output=output,
                grad=upstream,
                ksize=[1, *size, 1],
                strides=[1, *strides, 1],
                padding=padding.upper(),
            )

        @tf.custom_gradient
        def gradient(upstream):
            def gather(second):
                is_largest = scatter(tf.ones_like(output))
                return average(second * is_largest) / average(is_largest)

            return scatter(upstream), gather

        return output, gradient

    return differentiable(images)

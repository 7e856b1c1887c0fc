"""Max pooling whose second derivative is in closed form.

The derivative of max pooling sends a window's upstream g to its largest value, the first of them if several are as large.
It is linear in g, and constant in the values but where two tie. So its own derivative takes, of an upstream v, the value at
that place. Where windows do not overlap the place is marked by the derivative for g = 1, and v is taken there by an average
over the window. Where they do, the place is looked for among the values of each window.

TensorFlow's own operation for this is slow on a CPU; XLA's gives other values, and has no half precision
(tensorflow/tensorflow#11435).
"""

import itertools
from collections.abc import Sequence

import tensorflow as tf

from keras_flowreg.types import Images


def max_pool(images: Images, size: Sequence[int], strides: Sequence[int], padding: str) -> tf.Tensor:
    """The largest value of each window, channel by channel.

    Args:
      images: floating `[batch, height, width, channels]`.
      size: `(height, width)` of a window.
      strides: how far it is from one window to the next, down and right.
      padding: `"VALID"` or `"SAME"`.

    Returns:
      `[batch, new height, new width, channels]`, in the dtype of `images`.
    """
    windows = {"ksize": [1, *size, 1], "strides": [1, *strides, 1], "padding": padding}
    gather = _gather_from_overlapping if _overlap(size, strides) else _gather_from_separate

    @tf.custom_gradient
    def differentiable(images):
        output = tf.raw_ops.MaxPool(input=images, **windows)

        def scatter(upstream):
            return tf.raw_ops.MaxPoolGrad(orig_input=images, orig_output=output, grad=upstream, **windows)

        @tf.custom_gradient
        def gradient(upstream):
            return scatter(upstream), lambda second: gather(second, images, output, scatter, size, strides, padding)

        return output, gradient

    return differentiable(images)


def _overlap(size, strides):
    return any(step < side for side, step in zip(size, strides))


def _gather_from_separate(second, images, output, scatter, size, strides, padding):
    """The values of `second` where each window is largest, for windows that share no value."""
    is_largest = scatter(tf.ones_like(output))

    def average(values):
        return tf.nn.avg_pool2d(values, size, strides, padding)

    return average(second * is_largest) / average(is_largest)


def _gather_from_overlapping(second, images, output, scatter, size, strides, padding):
    """The same for windows of any kind."""
    is_found = tf.zeros_like(output, tf.bool)
    found = tf.zeros_like(output)
    places = zip(
        _values_by_place(images, output, images.dtype.min, size, strides, padding),
        _values_by_place(second, output, 0, size, strides, padding),
    )
    for values, second_values in places:
        is_first = (values == output) & ~is_found
        found = tf.where(is_first, second_values, found)
        is_found |= is_first
    return found


def _values_by_place(images, output, outside, size, strides, padding):
    """For each place in a window, the values of all windows there: tensors of the output's shape."""
    counts = tf.shape(output)[1:3]
    needed = [(counts[axis] - 1) * strides[axis] + size[axis] for axis in range(2)]
    missing = [tf.maximum(needed[axis] - tf.shape(images)[axis + 1], 0) for axis in range(2)]
    before = [count // 2 if padding == "SAME" else 0 for count in missing]
    rows, columns = ([first, count - first] for first, count in zip(before, missing))
    padded = tf.pad(images, [[0, 0], rows, columns, [0, 0]], constant_values=outside)
    for down, right in itertools.product(range(size[0]), range(size[1])):
        last = [place + needed[axis] - size[axis] + 1 for axis, place in enumerate((down, right))]
        values = padded[:, down : last[0] : strides[0], right : last[1] : strides[1]]
        yield tf.ensure_shape(values, output.shape)

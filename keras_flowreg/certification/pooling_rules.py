"""Rules for max pooling: the windows of an image."""

import tensorflow as tf
from keras import layers

from keras_flowreg.certification.rules import register_rule
from keras_flowreg.certification.steps import Linear, MaxPool


@register_rule(layers.MaxPooling2D)
def _max_pooling(layer):
    def windows(images, outside):
        return _windows(images, outside, layer.pool_size, layer.strides, layer.padding == "same")

    return [MaxPool(windows)]


@register_rule(layers.GlobalMaxPooling2D)
def _global_max_pooling(layer):
    def windows(images, outside):
        return tf.reshape(images, [tf.shape(images)[0], 1, 1, images.shape[1] * images.shape[2], images.shape[3]])

    keep = [] if layer.keepdims else [Linear(lambda images: tf.reshape(images, [tf.shape(images)[0], images.shape[3]]))]
    return [MaxPool(windows), *keep]


def _windows(images, outside, sizes, strides, is_padded):
    """The values of each window: `[batch, height, width, channels]` to `[batch, rows, columns, values, channels]`."""
    paddings, counts = [[0, 0]], []
    for side, size, stride in zip(images.shape[1:3], sizes, strides):
        count = -(-side // stride) if is_padded else (side - size) // stride + 1
        missing = max((count - 1) * stride + size - side, 0) if is_padded else 0
        paddings.append([missing // 2, missing - missing // 2])
        counts.append(count)
    padded = tf.pad(images, [*paddings, [0, 0]], constant_values=outside)
    values = [
        padded[
            :,
            row : row + (counts[0] - 1) * strides[0] + 1 : strides[0],
            column : column + (counts[1] - 1) * strides[1] + 1 : strides[1],
        ]
        for row in range(sizes[0])
        for column in range(sizes[1])
    ]
    return tf.stack(values, axis=3)

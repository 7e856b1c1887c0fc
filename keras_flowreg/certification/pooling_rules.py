"""Rules for max pooling: the windows of an image."""

import tensorflow as tf
from keras import layers

from keras_flowreg.certification.rules import register_rule
from keras_flowreg.certification.steps import Linear, MaxPool
from keras_flowreg.certification.windows import Sliding


@register_rule(layers.MaxPooling2D)
def _max_pooling(layer):
    sliding = Sliding(tuple(layer.pool_size), tuple(layer.strides), layer.padding == "same")
    return [MaxPool(lambda images: _windows(images, sliding), sliding)]


@register_rule(layers.GlobalMaxPooling2D)
def _global_max_pooling(layer):
    def windows(images):
        return tf.reshape(images, [tf.shape(images)[0], 1, 1, images.shape[1] * images.shape[2], images.shape[3]])

    keep = [] if layer.keepdims else [Linear(lambda images: tf.reshape(images, [tf.shape(images)[0], images.shape[3]]))]
    return [MaxPool(windows), *keep]


def _windows(images, sliding):
    """The values of each window: `[batch, height, width, channels]` to `[batch, rows, columns, values, channels]`."""
    ends = [side - size + 1 for side, size in zip(images.shape[1:3], sliding.sizes)]
    down, right = sliding.strides
    values = [
        images[:, row : row + ends[0] : down, column : column + ends[1] : right]
        for row in range(sliding.sizes[0])
        for column in range(sliding.sizes[1])
    ]
    return tf.stack(values, axis=3)

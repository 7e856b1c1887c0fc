"""Resizing whose second derivative exists.

Resizing is linear, and so is its derivative, which is the transpose: R^T g for an upstream g. The derivative of that, for an
upstream v, is R v: resizing again. TensorFlow registers no derivative of its transposed operations, or one that says that
there is none, so that a penalty trains nothing.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_flowreg.types import Images


def bilinear(images: Images, size: tf.Tensor, **rule: Any) -> tf.Tensor:
    """Resizes by bilinear interpolation, as `tf.raw_ops.ResizeBilinear` does.

    Args:
      images: `[batch, height, width, channels]`.
      size: the new `(height, width)`.
      **rule: `align_corners` and `half_pixel_centers`, of the raw operation.

    Returns:
      float32 `[batch, new height, new width, channels]`.
    """

    def transposed(upstream):
        return tf.raw_ops.ResizeBilinearGrad(grads=upstream, original_image=images, **rule)

    return _linear(images, lambda values: tf.raw_ops.ResizeBilinear(images=values, size=size, **rule), transposed)


def bicubic(images: Images, size: tf.Tensor, **rule: Any) -> tf.Tensor:
    """The same by bicubic interpolation: `tf.raw_ops.ResizeBicubic`."""

    def transposed(upstream):
        return tf.raw_ops.ResizeBicubicGrad(grads=upstream, original_image=images, **rule)

    return _linear(images, lambda values: tf.raw_ops.ResizeBicubic(images=values, size=size, **rule), transposed)


def nearest(images: Images, size: tf.Tensor, **rule: Any) -> tf.Tensor:
    """The same by the nearest pixel: `tf.raw_ops.ResizeNearestNeighbor`, in the dtype of the images."""

    def transposed(upstream):
        return tf.raw_ops.ResizeNearestNeighborGrad(grads=upstream, size=tf.shape(images)[1:3], **rule)

    return _linear(
        images, lambda values: tf.raw_ops.ResizeNearestNeighbor(images=values, size=size, **rule), transposed
    )


def _linear(images: Images, forward: Callable, transposed: Callable) -> tf.Tensor:
    """A linear map that can be differentiated as often as one likes."""

    @tf.custom_gradient
    def map_forward(values):
        return forward(values), map_back

    @tf.custom_gradient
    def map_back(upstream):
        return transposed(upstream), lambda second: map_forward(tf.cast(second, images.dtype))

    return map_forward(images)

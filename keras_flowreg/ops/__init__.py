"""Pure functions of tensors: warping and its derivatives, units, losses."""

from keras_flowreg.ops.losses import per_example_loss
from keras_flowreg.ops.units import normalized_from_pixels, pixels_from_normalized, weight_from_paper
from keras_flowreg.ops.warp import dense_image_warp, dense_image_warp_with_gradients, image_gradients

__all__ = [
    "dense_image_warp",
    "dense_image_warp_with_gradients",
    "image_gradients",
    "normalized_from_pixels",
    "per_example_loss",
    "pixels_from_normalized",
    "weight_from_paper",
]

"""Pure functions of tensors: warping and its derivatives, units, losses."""

from keras_flowreg.ops.divergence import kl_divergence
from keras_flowreg.ops.flows import DisplacementStatistics, displacement_statistics, flow_smoothness_loss
from keras_flowreg.ops.losses import (
    LogOddsLoss,
    MarginLoss,
    SmoothedSparseCategoricalCrossentropy,
    per_example_loss,
)
from keras_flowreg.ops.units import normalized_from_pixels, pixels_from_normalized, weight_from_paper
from keras_flowreg.ops.warp import dense_image_warp, dense_image_warp_with_gradients, image_gradients

__all__ = [
    "DisplacementStatistics",
    "LogOddsLoss",
    "MarginLoss",
    "SmoothedSparseCategoricalCrossentropy",
    "dense_image_warp",
    "dense_image_warp_with_gradients",
    "displacement_statistics",
    "flow_smoothness_loss",
    "image_gradients",
    "kl_divergence",
    "normalized_from_pixels",
    "per_example_loss",
    "pixels_from_normalized",
    "weight_from_paper",
]

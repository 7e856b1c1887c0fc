"""A dense flow: one displacement for each pixel."""

import keras
import tensorflow as tf

from keras_flowreg.ops import warp
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.perturbations.base import Perturbation


@keras.saving.register_keras_serializable(package="keras_flowreg")
class Flow(Perturbation):
    """T(x; f) = x warped along the flow f `[batch, height, width, 2]`, `(dy, dx)` in pixels.

        ∂loss/∂f[b, i, j, d] = -Σ_c ∂loss/∂T[b, i, j, c] · D_d T[b, i, j, c]

    where D_d T is the derivative of the bilinear interpolant along axis d, which the warp gathers anyway.
    The minus is the sign of the flow: it points back to where the pixel is taken from.

    Args:
      lattice: the derivative at integer positions: `"forward"`, `"backward"`, `"central"`, or
        `"two_sided"`, whose two sides a penalty averages; see `ops.warp`.
      implementation: whose warp: `"native"`, `"tfa"` or `"auto"`.

    Raises:
      ValueError: if an option is unknown, or TensorFlow Addons is asked for and missing.
    """

    def __init__(self, lattice="central", implementation="native"):
        self.lattice = expect_one_of("lattice", lattice, warp.LATTICE_RULES)
        warp.resolve_implementation(implementation)
        self.implementation = implementation

    def parameter_shape(self, images):
        return tf.concat([tf.shape(images)[:3], [2]], axis=0)

    def apply(self, images, parameters):
        # The value is the same by every rule; "two_sided" has no one derivative.
        rule = "forward" if self.lattice == "two_sided" else self.lattice
        return warp.dense_image_warp(images, parameters, rule, self.implementation)

    def flow(self, images, parameters):
        return parameters

    def linearize(self, images, parameters):
        if warp.resolve_implementation(self.implementation) == "tfa":
            return super().linearize(images, parameters)
        perturbed, gradients = warp.dense_image_warp_with_gradients(images, parameters, self.lattice)
        return perturbed, lambda upstream: _pull_back(gradients, upstream)

    def linearize_at_identity(self, images):
        gradients = warp.image_gradients(images, self.lattice)
        return images, lambda upstream: _pull_back(gradients, upstream)

    @property
    def sides(self):
        if self.lattice != "two_sided":
            return (self,)
        return tuple(Flow(rule, self.implementation) for rule in warp.ONE_SIDED_RULES)

    def get_config(self):
        return {"lattice": self.lattice, "implementation": self.implementation}


def _pull_back(gradients, upstream):
    """-Σ_c upstream · gradients: `[..., channels, 2]` and `[..., channels]` to `[..., 2]`."""
    return -tf.reduce_sum(gradients * upstream[..., tf.newaxis], axis=-2)

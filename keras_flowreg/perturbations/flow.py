"""A dense flow: one displacement for each pixel."""

import keras
import tensorflow as tf

from keras_flowreg.ops import warp
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.perturbations.base import Perturbation
from keras_flowreg.types import Config, Images, Parameters, Pullback


@keras.saving.register_keras_serializable(package="keras_flowreg")
class Flow(Perturbation):
    """T(x; f) = x warped along the flow f `[batch, height, width, 2]`, `(dy, dx)` in pixels.

        ∂loss/∂f[b, i, j, d] = -Σ_c ∂loss/∂T[b, i, j, c] · D_d T[b, i, j, c]

    where D_d T is the derivative of the bilinear interpolant along axis d, which the warp gathers anyway. The sign is that
    of the flow, which points back to where a pixel is taken from.

    ```python
    flow = tf.fill([len(images), 8, 10, 2], 0.5)  # half a pixel down and right
    moved = fr.perturbations.Flow().apply(images, flow)
    ```

    Args:
      lattice: the derivative at integer positions: `"forward"`, `"backward"`, `"central"`, or `"two_sided"`, whose two
        sides a penalty averages; see `ops.warp`.
      implementation: which warp is used: `"native"`, `"tfa"` (TensorFlow Addons'), or `"auto"` (that one where it is
        installed).

    Raises:
      ValueError: if an option is unknown, or TensorFlow Addons is asked for and missing.
    """

    def __init__(self, lattice: str = "central", implementation: str = "native"):
        self.lattice = expect_one_of("lattice", lattice, warp.LATTICE_RULES)
        warp.resolve_implementation(implementation)
        self.implementation = implementation

    def parameter_shape(self, images: Images) -> tf.Tensor:
        return tf.concat([tf.shape(images)[:3], [2]], axis=0)

    def apply(self, images: Images, parameters: Parameters) -> tf.Tensor:
        # The value is the same by every rule; "two_sided" has no one derivative.
        rule = "forward" if self.lattice == "two_sided" else self.lattice
        return warp.dense_image_warp(images, parameters, rule, self.implementation)

    def flow(self, images: Images, parameters: Parameters) -> tf.Tensor:
        return parameters

    def linearize(self, images: Images, parameters: Parameters) -> tuple[tf.Tensor, Pullback]:
        if warp.resolve_implementation(self.implementation) == "tfa":
            return super().linearize(images, parameters)
        perturbed, gradients = warp.dense_image_warp_with_gradients(images, parameters, self.lattice)
        return perturbed, lambda upstream: _pull_back(gradients, upstream)

    def linearize_at_identity(self, images: Images) -> tuple[tf.Tensor, Pullback]:
        gradients = warp.image_gradients(images, self.lattice)
        return images, lambda upstream: _pull_back(gradients, upstream)

    @property
    def sides(self) -> tuple["Flow", ...]:
        if self.lattice != "two_sided":
            return (self,)
        return tuple(Flow(rule, self.implementation) for rule in warp.ONE_SIDED_RULES)

    def get_config(self) -> Config:
        return {"lattice": self.lattice, "implementation": self.implementation}


def _pull_back(gradients, upstream):
    """-Σ_c upstream · gradients: `[..., channels, 2]` and `[..., channels]` to `[..., 2]`."""
    return -tf.reduce_sum(gradients * upstream[..., tf.newaxis], axis=-2)

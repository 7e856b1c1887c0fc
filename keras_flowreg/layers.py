"""The warp as a Keras layer."""

import keras

from keras_flowreg.ops import warp
from keras_flowreg.ops.validation import expect_one_of


@keras.saving.register_keras_serializable(package="keras_flowreg")
class DenseImageWarp(keras.layers.Layer):
    """Warps images along a dense flow; see `ops.dense_image_warp`.

    Its gradient with respect to the flow is right everywhere, integer positions included, for both
    implementations.

    Args:
      implementation: `"auto"`: TensorFlow Addons' where it is installed; `"tfa"`; `"native"`.
      lattice: the derivative at integer positions: `"forward"`, `"backward"` or `"central"`.
      **kwargs: as `keras.layers.Layer`.

    Call arguments:
      images: floating `[batch, height, width, channels]`.
      flow: floating `[batch, height, width, 2]`, `(dy, dx)` in pixels.

    Raises:
      ValueError: if an option is unknown, or TensorFlow Addons is asked for and missing.
    """

    def __init__(self, implementation="auto", lattice="central", **kwargs):
        super().__init__(**kwargs)
        warp.resolve_implementation(implementation)
        self.implementation = implementation
        self.lattice = expect_one_of("lattice", lattice, warp.DERIVATIVE_RULES)

    def call(self, images, flow):
        return warp.dense_image_warp(images, flow, self.lattice, self.implementation)

    def compute_output_shape(self, images_shape, flow_shape=None):
        return images_shape

    def get_config(self):
        return {**super().get_config(), "implementation": self.implementation, "lattice": self.lattice}

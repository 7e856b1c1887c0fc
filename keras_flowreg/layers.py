"""The warp as a Keras layer."""

from typing import Any, Optional

import keras
import tensorflow as tf

from keras_flowreg.ops import warp
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.types import Config, FlowField, Images


@keras.saving.register_keras_serializable(package="keras_flowreg")
class DenseImageWarp(keras.layers.Layer):
    """Warps images along a dense flow; see `ops.dense_image_warp`.

    Its gradient with respect to the flow is right everywhere, at integer positions too, for both implementations.

    ```python
    flow = tf.fill([len(images), 8, 10, 2], 0.5)  # half a pixel down and right
    warped = fr.layers.DenseImageWarp()(images, flow)
    ```

    Args:
      lattice: the derivative at integer positions: `"forward"`, `"backward"` or `"central"`; see `ops.warp`.
      implementation: which warp is used: `"native"`, `"tfa"` (TensorFlow Addons'), or `"auto"` (that one where it is
        installed).
      **kwargs: the options of `keras.layers.Layer`.

    Call arguments:
      images: floating `[batch, height, width, channels]`.
      flow: floating `[batch, height, width, 2]`, `(dy, dx)` in pixels.

    Raises:
      ValueError: if an option is unknown, or TensorFlow Addons is asked for and missing.
    """

    def __init__(self, lattice: str = "central", implementation: str = "auto", **kwargs: Any):
        super().__init__(**kwargs)
        self.lattice = expect_one_of("lattice", lattice, warp.DERIVATIVE_RULES)
        warp.resolve_implementation(implementation)
        self.implementation = implementation

    def call(self, images: Images, flow: FlowField) -> tf.Tensor:
        return warp.dense_image_warp(images, flow, self.lattice, self.implementation)

    def compute_output_shape(self, images_shape: tuple, flow_shape: Optional[tuple] = None) -> tuple:
        return images_shape

    def get_config(self) -> Config:
        return {**super().get_config(), "lattice": self.lattice, "implementation": self.implementation}

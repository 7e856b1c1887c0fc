"""Keras layers: the warp, and counterparts of Keras's own that are quick to differentiate twice."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, Optional

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.ops import normalization, pooling, warp
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.types import Config, FlowField, Images, KerasModel

_closed_forms = contextvars.ContextVar("closed_forms", default=True)


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


@keras.saving.register_keras_serializable(package="keras_flowreg")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's `BatchNormalization`, with both derivatives in closed form: a gradient penalty differentiates twice.

    It takes Keras's arguments. Its variables, values and first derivative are Keras's, so that it can take the place of
    that layer in a trained model. Only its second derivative differs: it is exact. Keras 3's layer, and Keras 2's with
    `fused=False`, hold the mean fixed in the variance (`tf.nn.moments`). Their first derivative is right all the same, but
    the second lacks a term. The term is small, but alike for all values of a channel. So it adds up in the derivative of a
    convolution before it.

    The closed forms are for training, on the last axis, in float32 and half precision, with an epsilon of 1.001e-5 or
    more, without mask, `synchronized` or renormalization. Everywhere else it is Keras's layer.

    ```python
    network = keras.Sequential([keras.layers.Conv2D(4, 3), fr.layers.BatchNormalization(), keras.layers.ReLU()])
    features = network(images, training=True)
    ```

    Args:
      **options: the options of `keras.layers.BatchNormalization`.
    """

    def __init__(self, **options: Any):
        super().__init__(**options, **compat.unfused_batch_normalization())

    def call(self, inputs: tf.Tensor, training: Any = None, mask: Optional[tf.Tensor] = None) -> tf.Tensor:
        if mask is not None or not self._has_closed_form(inputs, training):
            return super().call(inputs, training=training, mask=mask)
        size = tf.shape(self.moving_mean)
        output, mean, variance = normalization.batch_normalization(
            tf.cast(inputs, self.compute_dtype),
            tf.convert_to_tensor(self.gamma) if self.scale else tf.ones(size),
            tf.convert_to_tensor(self.beta) if self.center else tf.zeros(size),
            self.epsilon,
        )
        # A replica may get no examples of a last batch: it has no statistics.
        change = tf.where(tf.size(inputs) > 0, 1.0 - self.momentum, 0.0)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign_sub((tf.convert_to_tensor(moving) - new) * change)
        return output

    def _has_closed_form(self, inputs, training):
        trains = isinstance(training, (bool, int)) and training and self.trainable and _closed_forms.get()
        last = tf.nest.flatten(self.axis) in ([-1], [inputs.shape.rank - 1])
        numbers = self.variable_dtype == "float32" and self.epsilon >= normalization.SMALLEST_EPSILON
        special = (getattr(self, name, None) for name in ("synchronized", "renorm", "virtual_batch_size"))
        return trains and last and numbers and not any(special)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class MaxPooling2D(keras.layers.MaxPooling2D):
    """Keras's `MaxPooling2D`, with its second derivative in closed form: a gradient penalty differentiates twice.

    It has the values and derivatives of Keras's layer, and is quicker. It has them under XLA too, where the second
    derivative of TensorFlow's operation differs, and does not exist in half precision. Where windows overlap, or channels
    come first, it is Keras's layer.

    ```python
    network = keras.Sequential([keras.layers.Conv2D(4, 3), fr.layers.MaxPooling2D()])
    features = network(images)
    ```

    Args:
      **options: the options of `keras.layers.MaxPooling2D`.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not (self.has_closed_form and _closed_forms.get()):
            return super().call(inputs)
        return pooling.max_pool(inputs, self.pool_size, self.strides, self.padding)

    @property
    def has_closed_form(self) -> bool:
        """Whether the second derivative is the closed form, and not that of Keras's layer."""
        return self.data_format == "channels_last" and not pooling.windows_overlap(self.pool_size, self.strides)


_COUNTERPARTS: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.BatchNormalization: BatchNormalization,
    keras.layers.MaxPooling2D: MaxPooling2D,
}


def twice_differentiable(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer of the same configuration, which is quick to differentiate twice where this module has such a layer.

    ```python
    quick = keras.models.clone_model(model, clone_function=fr.layers.twice_differentiable)
    quick.set_weights(model.get_weights())
    ```

    Args:
      layer: a Keras layer.

    Returns:
      A layer with the same configuration, and weights of its own.
    """
    cls = _COUNTERPARTS.get(type(layer), type(layer))
    return cls.from_config(layer.get_config())


def pools_in_half_precision(model: KerasModel) -> bool:
    """Whether a model has max pooling in half precision, of which XLA has no second derivative.

    ```python
    print(fr.layers.pools_in_half_precision(model))  # False
    ```
    """
    pooling_layers = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)
    return any(
        isinstance(layer, pooling_layers)
        and layer.compute_dtype in ("float16", "bfloat16")
        and not getattr(layer, "has_closed_form", False)
        for layer in compat.all_layers(model)
    )


@contextlib.contextmanager
def keras_operations() -> Iterator[None]:
    """Makes the layers of this module run as Keras's own, for a graph that is read where this code is not.

    ```python
    with fr.layers.keras_operations():
        exported = tf.function(model).get_concrete_function(tf.TensorSpec([None, 8, 10, 2]))
    ```
    """
    token = _closed_forms.set(False)
    try:
        yield
    finally:
        _closed_forms.reset(token)

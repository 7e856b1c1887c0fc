"""Keras layers: the warp, and counterparts of Keras's own that are quick to differentiate twice."""

import contextlib
import contextvars

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.ops import normalization, pooling, warp
from keras_flowreg.ops.validation import expect_one_of

_closed_forms = contextvars.ContextVar("closed_forms", default=True)


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


@keras.saving.register_keras_serializable(package="keras_flowreg")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's `BatchNormalization`, with both derivatives in closed form: a gradient penalty differentiates twice.

    It takes Keras's arguments and has Keras's variables, and its values and first derivative are Keras's too, so that
    it can take the place of that layer in a trained model. Deviation: its second derivative is exact. Keras 3's layer,
    and Keras 2's with `fused=False`, hold the mean fixed in the variance (`tf.nn.moments`): the first derivative is
    right all the same, but the second lacks a term. It is small, but alike for all values of a channel, and so adds up
    in the derivative of a convolution before it.

    The closed forms are for training, on the last axis, in float32 and half precision, with an epsilon of 1.001e-5 or
    more, without mask, `synchronized` or renormalization. Everywhere else it is Keras's layer.

    Args:
      **options: as `keras.layers.BatchNormalization`.
    """

    def __init__(self, **options):
        super().__init__(**options, **compat.unfused_batch_normalization())

    def call(self, inputs, training=None, mask=None):
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

    It has the values and derivatives of Keras's layer, sooner; and under XLA too, where the second derivative of
    TensorFlow's operation differs and does not exist in half precision. Where windows overlap, or channels come first,
    it is Keras's layer.

    Args:
      **options: as `keras.layers.MaxPooling2D`.
    """

    def call(self, inputs):
        if not (self.has_closed_form and _closed_forms.get()):
            return super().call(inputs)
        return pooling.max_pool(inputs, self.pool_size, self.strides, self.padding)

    @property
    def has_closed_form(self):
        return self.data_format == "channels_last" and not pooling.windows_overlap(self.pool_size, self.strides)


_COUNTERPARTS = {
    keras.layers.BatchNormalization: BatchNormalization,
    keras.layers.MaxPooling2D: MaxPooling2D,
}


def twice_differentiable(layer):
    """A new layer like this one: of the classes in this file if it has a counterpart there.

    ```python
    quick = keras.models.clone_model(classifier, clone_function=fr.layers.twice_differentiable)
    quick.set_weights(classifier.get_weights())
    ```

    Args:
      layer: a Keras layer.

    Returns:
      A layer with the same configuration, and its own weights.
    """
    kind = _COUNTERPARTS.get(type(layer), type(layer))
    return kind.from_config(layer.get_config())


@contextlib.contextmanager
def keras_operations():
    """Within it, the counterparts are Keras's own layers: for a graph that is read where this code is not."""
    token = _closed_forms.set(False)
    try:
        yield
    finally:
        _closed_forms.reset(token)

"""Rules for layers that rescale: by numbers of their own, by the statistics of batches, or by those of the example itself."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import layers

from keras_flowreg.certification.activations import LeakyReLU
from keras_flowreg.certification.linear_rules import Averaging
from keras_flowreg.certification.products import InverseRoot, Normalized, Product, Square
from keras_flowreg.certification.rules import described, register_rule
from keras_flowreg.certification.steps import Linear, Taking
from keras_flowreg.certification.windows import Sliding

_LEAST_SUM = 1e-12  # of squares, whose root a unit normalization divides by


@register_rule(layers.BatchNormalization)
def _batch_normalization(layer):
    return [_Normalization(layer, *map(tf.convert_to_tensor, (layer.moving_mean, layer.moving_variance)))]


@register_rule(layers.Rescaling)
def _rescaling(layer):
    return [Scale(layer.scale, layer.offset)]


@register_rule(layers.Normalization)
def _normalization(layer):
    mean, deviation = layer.mean, tf.maximum(tf.sqrt(layer.variance), 1e-7)
    return [Scale(deviation, mean) if getattr(layer, "invert", False) else Scale(1 / deviation, -mean / deviation)]


@register_rule(layers.LayerNormalization)
def _layer_normalization(layer):
    if getattr(layer, "rms_scaling", False):
        raise ValueError(f"Expected a layer normalization without `rms_scaling`. Received {described(layer)} with it.")
    axes, rank = _axes_and_rank(layer)
    if axes != [*range(axes[0], rank)]:
        raise ValueError(
            f"Expected a layer normalization of the last axes. Received {described(layer)} of {layer.axis}."
        )
    shape = [layer.get_build_config()["input_shape"][axis] for axis in axes]
    return [centering_step(axes), *_division_by_root(axes, layer.epsilon, is_centered=True), _scaled(layer, shape)]


@register_rule(layers.GroupNormalization)
def _group_normalization(layer):
    (axis,), rank = _axes_and_rank(layer)
    if axis != rank - 1:
        raise ValueError(
            f"Expected groups of channels, the last axis. Received {described(layer)} of axis {layer.axis}."
        )

    def split(inputs):
        shape = [tf.shape(inputs)[0], *inputs.shape[1:-1], layer.groups, inputs.shape[-1] // layer.groups]
        return tf.reshape(inputs, shape)

    def joined(inputs):
        return tf.reshape(inputs, [tf.shape(inputs)[0], *inputs.shape[1:-2], math.prod(inputs.shape[-2:])])

    axes = [*range(1, rank - 1), rank]
    return [
        Linear(split),
        centering_step(axes),
        *_division_by_root(axes, layer.epsilon, is_centered=True),
        Linear(joined),
        _scaled(layer),
    ]


@register_rule(layers.UnitNormalization)
def _unit_normalization(layer):
    axes = tf.nest.flatten(layer.axis)

    def total(inputs):
        return tf.reduce_sum(inputs, axes, keepdims=True)

    return [
        Square(),
        Linear(total, sliding=_sliding_over(axes)),
        Scale(1.0, -_LEAST_SUM),  # It takes the root of the sum, or of this number, if that is greater.
        LeakyReLU(),
        InverseRoot(_LEAST_SUM),
        Taking(Product(), (0, -1)),
        Normalized(lambda inputs: 1.0),
    ]


if hasattr(layers, "RMSNormalization"):

    @register_rule(layers.RMSNormalization)
    def _root_mean_square_normalization(layer):
        return [*_division_by_root(tf.nest.flatten(layer.axis), layer.epsilon), Scale(layer.scale, 0.0)]


def _axes_and_rank(layer):
    """The axes of a layer, counted from the first, and how many its inputs have."""
    rank = len(layer.get_build_config()["input_shape"])
    return sorted(axis % rank for axis in tf.nest.flatten(layer.axis)), rank


def _sliding_over(axes):
    """How what is done along some axes slides over images: pixel by pixel, if it is along the channels alone."""
    return Sliding() if axes in ([-1], [3]) else None


def centering_step(axes: Sequence[int]) -> Linear:
    """What is left of each value without the mean over some axes."""

    def centered(inputs):
        return inputs - tf.reduce_mean(inputs, axes, keepdims=True)

    def sizes(inputs):  # Each value is a part of its own mean.
        return tf.reduce_mean(inputs, axes, keepdims=True) + (1 - 2 / _count_along(axes, inputs)) * inputs

    return Averaging(centered, axes, absolute=sizes, sliding=_sliding_over(axes))


def _division_by_root(axes, epsilon, is_centered=False):
    """The steps that divide a value by the root of the mean of its squares."""

    def mean(inputs):
        return tf.reduce_mean(inputs, axes, keepdims=True)

    def greatest(inputs):  # That of one number is reached where the others are zero, or alike.
        return math.sqrt(_count_along(axes, inputs) - is_centered)

    return [
        Square(),
        Linear(mean, sliding=_sliding_over(axes)),
        InverseRoot(epsilon),
        Taking(Product(), (-4, -1)),  # of what comes before these steps, and the root
        Normalized(greatest),
    ]


def _count_along(axes, inputs):
    return math.prod(inputs.shape[axis] for axis in axes)


def _scaled(layer, shape=(-1,)):
    """The step that multiplies by a layer's gamma and adds its beta, of this shape, where it has them."""
    gamma, beta = (None if each is None else tf.reshape(each, shape) for each in (layer.gamma, layer.beta))
    return Scale(1.0 if gamma is None else gamma, 0.0 if beta is None else beta)


def _is_by_channel(values):
    return values.shape.num_elements() == values.shape[-1:].num_elements()


def _summed_to(parts, shape):
    """The sum over the axes along which a value of this shape was repeated."""
    repeated = [axis for axis, side in enumerate(shape, start=1) if side == 1 != parts.shape[axis]]
    return tf.reduce_sum(parts, repeated, keepdims=True) if repeated else parts


class Scale(Linear):
    """Each value times a number, plus a number. They are what TensorFlow makes tensors of."""

    def __init__(self, scale: Any, offset: Any):
        scale, offset = (tf.cast(numbers, tf.float32) for numbers in (scale, offset))
        super().__init__(
            lambda inputs: inputs * scale,
            absolute=lambda inputs: inputs * tf.abs(scale),
            offset=offset,
            # One number for each channel is the same at each pixel.
            sliding=Sliding() if _is_by_channel(scale) and _is_by_channel(offset) else None,
            transpose=lambda coefficients, shapes: [_summed_to(coefficients * scale, shapes[0])],
        )


class _Normalization(Scale):
    """A batch normalization by a mean and a variance."""

    has_statistics = True

    def __init__(self, layer: layers.Layer, mean: tf.Tensor, variance: tf.Tensor):
        self._layer = layer
        axes = tf.nest.flatten(layer.axis)
        if len(axes) != 1:
            raise ValueError(f"Expected a normalization of one axis. Received {described(layer)} of the axes {axes}.")
        (self._axis,) = axes
        scale = tf.math.rsqrt(variance + layer.epsilon)
        if layer.scale:
            scale *= tf.convert_to_tensor(layer.gamma)
        shift = tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros_like(mean)
        offset, offset_terms = shift - mean * scale, tf.abs(shift) + tf.abs(mean * scale)
        scale, offset, self._offset_terms = (
            _along(self._axis, layer, values) for values in (scale, offset, offset_terms)
        )
        super().__init__(scale, offset)

    def terms(self, *sizes: tf.Tensor) -> tf.Tensor:
        """The offset is a sum itself, whose two terms may cancel each other."""
        return super().terms(*sizes) + self._offset_terms

    def in_training(self, inputs: tf.Tensor) -> Linear:
        if not self._layer.trainable:
            return self
        if getattr(self._layer, "renorm", False):
            raise ValueError(
                f"Expected a batch normalization without `renorm` in training. Received {described(self._layer)}."
            )
        rank = inputs.shape.rank
        others = [axis for axis in range(rank) if axis != self._axis % rank]
        return _Normalization(self._layer, *tf.nn.moments(inputs, others))


def _along(axis, layer, values):
    """One number for each place on an axis, in a shape that broadcasts."""
    places_behind = layer.input_spec.ndim - 1 - axis if axis >= 0 else -1 - axis
    return tf.reshape(values, [-1, *[1] * places_behind])

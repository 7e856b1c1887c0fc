"""Rules for layers that are linear: convolutions, dense layers, scalings and averages.

A convolution's kernel is made plain: one with dilation, or in groups, is the plain one with zeros in it.
"""

import math

import tensorflow as tf
from keras import layers

from keras_flowreg.certification.rules import activation_steps, described, register_rule
from keras_flowreg.certification.steps import Linear, weight_of
from keras_flowreg.certification.windows import Sliding


@register_rule(layers.Dense)
def _dense(layer):
    kernel = tf.convert_to_tensor(layer.kernel)

    def multiply(weights):
        return lambda inputs: tf.tensordot(inputs, weights, [[-1], [0]])

    def transpose(coefficients, shapes):
        return [tf.tensordot(coefficients, kernel, [[-1], [1]])]

    linear = _weighted(multiply, kernel, offset=_bias(layer), summands=max(kernel.shape), transpose=transpose)
    return [linear, *activation_steps(layer)]


@register_rule(layers.Conv2D)
def _convolution(layer):
    kernel = _in_one_group(tf.convert_to_tensor(layer.kernel), layer.groups)
    linear = _convolve(_without_dilation(kernel, layer.dilation_rate), layer.strides, layer.padding, _bias(layer))
    return [linear, *activation_steps(layer)]


@register_rule(layers.DepthwiseConv2D)
def _depthwise_convolution(layer):
    return [_convolve_depthwise(layer, _depthwise_kernel(layer), _bias(layer)), *activation_steps(layer)]


@register_rule(layers.SeparableConv2D)
def _separable_convolution(layer):
    pointwise = tf.convert_to_tensor(layer.pointwise_kernel)
    return [
        _convolve_depthwise(layer, _depthwise_kernel(layer), None),
        _convolve(pointwise, (1, 1), "valid", _bias(layer)),
        *activation_steps(layer),
    ]


@register_rule(layers.BatchNormalization)
def _batch_normalization(layer):
    return [_Normalization(layer, *map(tf.convert_to_tensor, (layer.moving_mean, layer.moving_variance)))]


@register_rule(layers.Rescaling)
def _rescaling(layer):
    return [_Scale(tf.cast(layer.scale, tf.float32), tf.cast(layer.offset, tf.float32))]


@register_rule(layers.Normalization)
def _normalization(layer):
    mean, deviation = layer.mean, tf.maximum(tf.sqrt(layer.variance), 1e-7)
    scale, offset = (deviation, mean) if getattr(layer, "invert", False) else (1 / deviation, -mean / deviation)
    return [_Scale(*(tf.cast(values, tf.float32) for values in (scale, offset)))]


@register_rule(layers.AveragePooling2D)
def _average_pooling(layer):
    padding, summands = layer.padding.upper(), math.prod(layer.pool_size)
    return [Linear(lambda inputs: tf.nn.avg_pool2d(inputs, layer.pool_size, layer.strides, padding), summands=summands)]


@register_rule(layers.GlobalAveragePooling2D)
def _global_average_pooling(layer):
    return [_Mean(lambda inputs: tf.reduce_mean(inputs, axis=[1, 2], keepdims=layer.keepdims))]


def _weighted(function_of, kernel, **options):
    """A linear step of a kernel, by a function from weights to a function of the inputs."""
    return Linear(function_of(kernel), absolute=function_of(tf.abs(kernel)), **options)


def _bias(layer):
    return tf.convert_to_tensor(layer.bias) if layer.use_bias else None


def _is_by_channel(values):
    return values.shape.num_elements() == values.shape[-1:].num_elements()


def _summed_to(parts, shape):
    """The sum over the axes along which a value of this shape was repeated."""
    repeated = [axis for axis, side in enumerate(shape, start=1) if side == 1 != parts.shape[axis]]
    return tf.reduce_sum(parts, repeated, keepdims=True) if repeated else parts


class _Mean(Linear):
    """A mean over all pixels."""

    def terms(self, *sizes: tf.Tensor) -> tf.Tensor:
        return weight_of(math.prod(sizes[0].shape[1:3])) * super().terms(*sizes)


class _Scale(Linear):
    """Each value times a number, plus a number."""

    def __init__(self, scale: tf.Tensor, offset: tf.Tensor):
        super().__init__(
            lambda inputs: inputs * scale,
            absolute=lambda inputs: inputs * tf.abs(scale),
            offset=offset,
            # One number for each channel is the same at each pixel.
            sliding=Sliding() if _is_by_channel(scale) and _is_by_channel(offset) else None,
            transpose=lambda coefficients, shapes: [_summed_to(coefficients * scale, shapes[0])],
        )


class _Normalization(_Scale):
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
        offset = -mean * scale
        if layer.center:
            offset += tf.convert_to_tensor(layer.beta)
        super().__init__(*(_along(self._axis, layer, values) for values in (scale, offset)))

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


def _convolve(kernel, strides, padding, bias):
    strides, sliding = list(strides), _sliding(kernel, strides, padding)

    def convolve(weights):
        return lambda inputs: tf.nn.conv2d(inputs, weights, strides, padding.upper())

    def transpose(coefficients, shapes):
        shape = [tf.shape(coefficients)[0], *shapes[0]]
        return [tf.nn.conv2d_transpose(coefficients, kernel, shape, strides, "VALID")]

    summands = math.prod(kernel.shape[:2]) * max(kernel.shape[2:])
    return _weighted(convolve, kernel, offset=bias, summands=summands, sliding=sliding, transpose=transpose)


def _convolve_depthwise(layer, kernel, bias):
    strides, sliding = [1, *layer.strides, 1], _sliding(kernel, layer.strides, layer.padding)

    def convolve(weights):
        return lambda inputs: tf.nn.depthwise_conv2d(inputs, weights, strides, layer.padding.upper())

    def transpose(coefficients, shapes):
        shape = [tf.shape(coefficients)[0], *shapes[0]]
        return [tf.nn.depthwise_conv2d_backprop_input(shape, kernel, coefficients, strides, "VALID")]

    summands = math.prod(kernel.shape[:2]) * kernel.shape[3]
    return _weighted(convolve, kernel, offset=bias, summands=summands, sliding=sliding, transpose=transpose)


def _sliding(kernel, strides, padding):
    return Sliding(tuple(kernel.shape[:2]), tuple(strides), padding == "same")


def _depthwise_kernel(layer):
    kernel = layer.depthwise_kernel if hasattr(layer, "depthwise_kernel") else layer.kernel
    return _without_dilation(tf.convert_to_tensor(kernel), layer.dilation_rate)


def _without_dilation(kernel, rates):
    """A kernel with zeros between its places, as far apart as the dilation says."""
    for axis, rate in enumerate(rates):
        if rate > 1:
            size = kernel.shape[axis]
            spread = [(place % rate == 0) for place in range((size - 1) * rate + 1)]
            places = [place // rate if is_there else size for place, is_there in enumerate(spread)]
            paddings = [[0, int(dimension == axis)] for dimension in range(4)]
            kernel = tf.gather(tf.pad(kernel, paddings), places, axis=axis)
    return kernel


def _in_one_group(kernel, groups):
    """A kernel that reads every input channel, zero for those of other groups."""
    if groups == 1:
        return kernel
    parts = tf.split(kernel, groups, axis=3)
    zeros = tf.zeros_like(parts[0])
    rows = [
        tf.concat([part if own == row else zeros for own, part in enumerate(parts)], axis=3) for row in range(groups)
    ]
    return tf.concat(rows, axis=2)

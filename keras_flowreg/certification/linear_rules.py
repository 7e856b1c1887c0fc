"""Rules for layers that are linear: convolutions, dense layers, averages and changes of an image's size.

A convolution's kernel is made plain: one with dilation, or in groups, is the plain one with zeros in it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from keras import layers

from keras_flowreg.certification.activation_rules import activation_steps
from keras_flowreg.certification.rules import described, register_rule
from keras_flowreg.certification.steps import Linear
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


@register_rule(layers.Conv2DTranspose)
def _transposed_convolution(layer):
    if layer.output_padding is not None or set(layer.dilation_rate) != {1}:
        raise ValueError(
            "Expected a transposed convolution without a dilation or an output padding. "
            f"Received {described(layer)} of dilation {layer.dilation_rate} and output padding {layer.output_padding}."
        )
    kernel, strides, padding = tf.convert_to_tensor(layer.kernel), list(layer.strides), layer.padding.upper()

    def convolve(weights):
        def convolved(inputs):
            shape = [tf.shape(inputs)[0], *layer.compute_output_shape([1, *inputs.shape[1:]])[1:]]
            return tf.nn.conv2d_transpose(inputs, weights, shape, strides, padding)

        return convolved

    def transpose(coefficients, shapes):
        return [tf.nn.conv2d(coefficients, kernel, strides, padding)]

    linear = _weighted(convolve, kernel, offset=_bias(layer), summands=_summands(kernel), transpose=transpose)
    return [linear, *activation_steps(layer)]


@register_rule(layers.SeparableConv2D)
def _separable_convolution(layer):
    pointwise = tf.convert_to_tensor(layer.pointwise_kernel)
    return [
        _convolve_depthwise(layer, _depthwise_kernel(layer), None),
        _convolve(pointwise, (1, 1), "valid", _bias(layer)),
        *activation_steps(layer),
    ]


@register_rule(layers.AveragePooling2D)
def _average_pooling(layer):
    padding, summands = layer.padding.upper(), math.prod(layer.pool_size)
    return [Linear(lambda inputs: tf.nn.avg_pool2d(inputs, layer.pool_size, layer.strides, padding), summands=summands)]


@register_rule(layers.GlobalAveragePooling2D)
def _global_average_pooling(layer):
    return [Linear(lambda inputs: tf.reduce_mean(inputs, axis=[1, 2], keepdims=layer.keepdims))]


@register_rule(layers.GlobalAveragePooling1D)
def _global_average_pooling_of_rows(layer):
    return [Linear(lambda inputs: tf.reduce_mean(inputs, axis=1, keepdims=layer.keepdims))]


@register_rule(layers.CenterCrop)
def _middle(layer):
    return [Weightless(layer)]


@register_rule(layers.UpSampling2D, layers.Resizing)
def _resizing(layer):
    if layer.interpolation not in ("nearest", "bilinear"):
        raise ValueError(
            "Expected an interpolation without negative weights, 'nearest' or 'bilinear'. "
            f"Received {layer.interpolation!r} in {described(layer)}."
        )
    if getattr(layer, "pad_to_aspect_ratio", False) and layer.fill_value:
        raise ValueError(
            f"Expected an image padded with zeros. Received {described(layer)}, which fills with {layer.fill_value}."
        )
    return [_Resized(layer)]


def _weighted(function_of, kernel, **options):
    """A linear step of a kernel, by a function from weights to a function of the inputs."""
    return Linear(function_of(kernel), absolute=function_of(tf.abs(kernel)), **options)


def _bias(layer):
    return tf.convert_to_tensor(layer.bias) if layer.use_bias else None


class Averaging(Linear):
    """A linear function of means over some axes, and of the values themselves."""

    def __init__(self, function: Callable[..., tf.Tensor], axes: Sequence[int], **options: Any):
        super().__init__(function, **options)
        self._axes = axes

    def summands(self, inputs: Sequence[tf.Tensor], output: tf.Tensor) -> int:
        return max(super().summands(inputs, output), math.prod(inputs[0].shape[axis] for axis in self._axes))


class Weightless(Linear):
    """A linear function without weights, some of which TensorFlow cannot differentiate twice.

    Its derivative is linear, too, and the function itself is the derivative of that.
    """

    def __init__(self, function: Callable[..., tf.Tensor], **options: Any):
        super().__init__(function, transpose=self._transposed, **options)

    def _transposed(self, coefficients, shapes):
        @tf.custom_gradient
        def map_back(coefficients):
            return self._differentiate(coefficients, shapes), self._function

        return map_back(coefficients)


class _Resized(Weightless):
    """An image of another size, each pixel of which is a mean of a few: of as many as lie between those of the smaller one."""

    def summands(self, inputs: Sequence[tf.Tensor], output: tf.Tensor) -> int:
        sides = zip(inputs[0].shape[1:3], output.shape[1:3])
        ratios = [max(before / after, after / before) for before, after in sides]
        return math.ceil(4 * ratios[0] * ratios[1])


def _convolve(kernel, strides, padding, bias):
    strides, sliding = list(strides), _sliding(kernel, strides, padding)

    def convolve(weights):
        return lambda inputs: tf.nn.conv2d(inputs, weights, strides, padding.upper())

    def transpose(coefficients, shapes):
        shape = [tf.shape(coefficients)[0], *shapes[0]]
        return [tf.nn.conv2d_transpose(coefficients, kernel, shape, strides, "VALID")]

    return _weighted(convolve, kernel, offset=bias, summands=_summands(kernel), sliding=sliding, transpose=transpose)


def _summands(kernel):
    """How many inputs an output of a convolution is the sum of, or outputs an input goes into, at most."""
    return math.prod(kernel.shape[:2]) * max(kernel.shape[2:])


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

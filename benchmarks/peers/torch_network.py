"""A Keras network as a PyTorch module with the same weights, for the comparisons with PyTorch's attacks."""

import itertools

import keras
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from keras_flowreg.wrapped import classifier_of

_ACTIVATIONS = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}


class SamePadding(nn.Module):
    """TensorFlow's "same" padding of `[batch, channels, height, width]`: what is odd goes below and to the right."""

    def __init__(self, size, strides, dilation=(1, 1), value=0.0):
        super().__init__()
        self.axes = list(zip(size, strides, dilation))
        self.value = value

    def forward(self, x):
        padding = []
        for length, (size, stride, dilation) in zip(x.shape[2:], self.axes):
            total = max((-(-length // stride) - 1) * stride + (size - 1) * dilation + 1 - length, 0)
            padding = [total // 2, total - total // 2, *padding]
        return functional.pad(x, padding, value=self.value)


class AveragePooling(nn.Module):
    """The mean over each window, of what lies in the image, as Keras takes it."""

    def __init__(self, size, strides, padding):
        super().__init__()
        self.pool = nn.AvgPool2d(size, strides)
        self.pad = padding

    def forward(self, x):
        return self.pool(self.pad(x)) / self.pool(self.pad(torch.ones_like(x)))


class Flatten(nn.Module):
    """Flattens in Keras's order, channels last."""

    def forward(self, x):
        return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


class GlobalAveragePooling(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def from_keras(model):
    """Converts a Keras network whose layers are a chain: Sequential, or functional without branches.

    Args:
      model: a Keras model, `[batch, height, width, channels]` to logits; of one with a `base_model`, that.

    Returns:
      A `torch.nn.Module` in evaluation mode, `[batch, channels, height, width]` to logits.

    Raises:
      ValueError: if the layers branch, or there is one that has no counterpart here.
    """
    model = classifier_of(model)
    chain = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    for earlier, later in zip(chain, chain[1:]):
        if later.input is not earlier.output:
            raise ValueError(f"Expected a chain of layers. Received {later.name!r}, which is not on {earlier.name!r}.")
    modules = itertools.chain.from_iterable(_modules(layer) for layer in chain)
    return nn.Sequential(*modules).eval().requires_grad_(False)


def to_torch(images):
    """`[batch, height, width, channels]`, as PyTorch has it: `[batch, channels, height, width]`."""
    return torch.tensor(np.transpose(images, (0, 3, 1, 2)))


def expect_same_logits(model, network, images, tolerance=1e-4):
    """Raises RuntimeError if the two networks' logits differ by more than `tolerance`, of the largest if above 1."""
    expected = np.array(model(images, training=False))
    with torch.no_grad():
        difference = np.abs(network(to_torch(images)).numpy() - expected).max()
    if not difference <= tolerance * max(1.0, np.abs(expected).max()):
        raise RuntimeError(f"Expected the converted network's logits within {tolerance}. Received {difference} off.")


def _modules(layer):
    """The modules that do what one Keras layer does."""
    for kind, convert in _CONVERTERS.items():
        if type(layer) is kind and getattr(layer, "data_format", "channels_last") == "channels_last":
            return convert(layer)
    known = ", ".join(kind.__name__ for kind in _CONVERTERS)
    raise ValueError(f"Expected channels-last layers among {known}. Received {layer.name!r}, a {type(layer).__name__}.")


def _activation(layer):
    name = getattr(layer.activation, "__name__", None)
    if name not in _ACTIVATIONS:
        raise ValueError(f"Expected an activation among {', '.join(_ACTIVATIONS)}. Received {name} of {layer.name!r}.")
    return _ACTIVATIONS[name]()


def _relu(layer):
    if layer.max_value is not None or np.any(layer.negative_slope) or np.any(layer.threshold):
        raise ValueError(f"Expected a ReLU without options. Received {layer.get_config()}.")
    return [nn.ReLU()]


def _padding(layer, size, value=0.0):
    if layer.padding == "valid":
        return nn.Identity()
    return SamePadding(size, layer.strides, getattr(layer, "dilation_rate", (1, 1)), value)


def _convolution(layer):
    kernel = np.array(layer.kernel)
    options = {"dilation": layer.dilation_rate, "groups": layer.groups, "bias": layer.use_bias}
    inputs = kernel.shape[2] * layer.groups
    module = nn.Conv2d(inputs, layer.filters, layer.kernel_size, layer.strides, **options)
    _set(module, weight=kernel.transpose(3, 2, 0, 1), bias=layer.bias if layer.use_bias else None)
    return [_padding(layer, layer.kernel_size), module, _activation(layer)]


def _dense(layer):
    inputs, units = layer.kernel.shape
    if len(layer.input.shape) != 2:
        raise ValueError(f"Expected Dense layers of flat features. Received {layer.name!r}, of {layer.input.shape}.")
    module = nn.Linear(inputs, units, bias=layer.use_bias)
    _set(module, weight=np.array(layer.kernel).T, bias=layer.bias if layer.use_bias else None)
    return [module, _activation(layer)]


def _normalization(layer):
    rank = len(layer.input.shape)
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if rank not in (2, 4) or axis not in (-1, rank - 1):
        raise ValueError(f"Expected BatchNormalization of the last axis. Received {layer.get_config()}.")
    kind = nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d
    module = kind(layer.input.shape[-1], eps=layer.epsilon)
    _set(module, running_mean=layer.moving_mean, running_var=layer.moving_variance)
    _set(module, weight=layer.gamma if layer.scale else None, bias=layer.beta if layer.center else None)
    return [module]


def _max_pooling(layer):
    return [_padding(layer, layer.pool_size, float("-inf")), nn.MaxPool2d(layer.pool_size, layer.strides)]


def _average_pooling(layer):
    return [AveragePooling(layer.pool_size, layer.strides, _padding(layer, layer.pool_size))]


def _global_average_pooling(layer):
    if layer.keepdims:
        raise ValueError(f"Expected GlobalAveragePooling2D(keepdims=False). Received {layer.get_config()}.")
    return [GlobalAveragePooling()]


def _set(module, **values):
    """Sets a module's weights to Keras's; those that are `None` stay as they are."""
    with torch.no_grad():
        for name, value in values.items():
            if value is not None:
                getattr(module, name).copy_(torch.tensor(np.array(value)))


_CONVERTERS = {
    keras.layers.Conv2D: _convolution,
    keras.layers.Dense: _dense,
    keras.layers.BatchNormalization: _normalization,
    keras.layers.ReLU: _relu,
    keras.layers.Activation: lambda layer: [_activation(layer)],
    keras.layers.MaxPooling2D: _max_pooling,
    keras.layers.AveragePooling2D: _average_pooling,
    keras.layers.GlobalAveragePooling2D: _global_average_pooling,
    keras.layers.Flatten: lambda layer: [Flatten()],
    keras.layers.Dropout: lambda layer: [],
}

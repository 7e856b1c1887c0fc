"""Rules for activations: the table from functions to steps, and the layers of them."""

import math
from collections.abc import Callable, Hashable

import keras
import tensorflow as tf
from keras import layers

from keras_flowreg import compat
from keras_flowreg.certification.activations import (
    Clipped,
    LeakyReLU,
    ParametricReLU,
    Sigmoid,
    Smooth,
    sigmoid_slope,
)
from keras_flowreg.certification.curves import exponential
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.rules import described, register_rule
from keras_flowreg.certification.softmax import Softmax
from keras_flowreg.certification.steps import Elementwise, Step

_CANCELLATION = 2e-7  # of an input, where a function takes a difference of what is nearly 1


def activation_steps(layer: layers.Layer) -> list[Step]:
    """The steps of a layer's `activation`.

    Raises:
      ValueError: if there is no rule for it.
    """
    function = layer.activation
    if function is None or function is keras.activations.linear:
        return []
    if not isinstance(function, Hashable) or function not in _OF_FUNCTIONS:
        name = getattr(function, "__name__", function)
        known = ", ".join(sorted({known.__name__ for known in _OF_FUNCTIONS}))
        raise ValueError(
            f"Expected an activation with a rule for bounds: {known}. Received {name} in {described(layer)}."
        )
    return [_OF_FUNCTIONS[function]()]


@register_rule(layers.Activation)
def _activation(layer):
    return activation_steps(layer)


@register_rule(layers.ELU)
def _elu_layer(layer):
    if layer.alpha < 0:
        raise ValueError(f"Expected an ELU that does not fall. Received {described(layer)} of alpha {layer.alpha}.")
    return [elu(float(layer.alpha))]


@register_rule(layers.Softmax)
def _softmax(layer):
    if layer.axis != -1:
        raise ValueError(f"Expected a softmax over the last axis. Received {described(layer)} over axis {layer.axis}.")
    return [Softmax()]


@register_rule(layers.ReLU, layers.LeakyReLU)
def _leaky_relu(layer):
    slope = float(layer.alpha if hasattr(layer, "alpha") else layer.negative_slope)
    most, threshold = getattr(layer, "max_value", None), getattr(layer, "threshold", 0.0)
    if threshold or (most is not None and slope):
        raise ValueError(
            "Expected a ReLU without a threshold, and with a slope or a largest value, not both. "
            f"Received {described(layer)} with others."
        )
    if most is not None:
        return [Clipped(most)]
    return [LeakyReLU(slope) if 0 <= slope < 1 else ParametricReLU(slope)]


@register_rule(layers.PReLU)
def _parametric_relu(layer):
    return [ParametricReLU(tf.convert_to_tensor(layer.alpha))]


class _Gelu(Smooth):
    """TensorFlow 2.15 takes x (1 + erf(x / √2)), which float32 rounds by a part of x where it is nearly zero."""

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        return super().interval(inputs).widened(_CANCELLATION * inputs.largest)

    def value(self, *inputs: tf.Tensor) -> tf.Tensor:
        return self._function(*inputs)


def _gelu() -> Elementwise:
    root = math.sqrt(2)
    return _Gelu(
        tf.nn.gelu,
        lambda x: (1 + tf.math.erf(x / root)) / 2 + x * tf.exp(-(x**2) / 2) / math.sqrt(2 * math.pi),
        inflections=(-root, root),
        extrema=(-0.7517916,),
    )


def _gelu_tanh() -> Elementwise:
    """The approximation of GELU by tanh, which some libraries take for it."""
    root, cube = math.sqrt(2 / math.pi), 0.044715

    def derivative(x):
        part = tf.tanh(root * (x + cube * x**3))
        return (1 + part + x * (1 - part**2) * root * (1 + 3 * cube * x**2)) / 2

    return _Gelu(
        lambda x: tf.nn.gelu(x, approximate=True),
        derivative,
        inflections=(-1.418504, 1.418504),
        extrema=(-0.7524614,),
    )


def _tanh() -> Elementwise:
    return Smooth(tf.tanh, lambda x: 1 - tf.tanh(x) ** 2, inflections=(0.0,))


def _softplus() -> Elementwise:
    return Smooth(tf.math.softplus, tf.sigmoid)


def _log_sigmoid() -> Elementwise:
    return Smooth(tf.math.log_sigmoid, lambda x: tf.sigmoid(-x))


def _softsign() -> Elementwise:
    return Smooth(tf.nn.softsign, lambda x: 1 / (1 + tf.abs(x)) ** 2, inflections=(0.0,), far=5000.0)


def elu(alpha: float = 1.0, scale: float = 1.0) -> Elementwise:
    """scale · x above zero, scale · alpha · (exp(x) - 1) below: the derivative jumps at zero."""

    def function(x):
        return scale * tf.where(x > 0, x, alpha * tf.math.expm1(tf.minimum(x, 0.0)))

    def derivative(x):
        return scale * tf.where(x > 0, 1.0, alpha * tf.exp(tf.minimum(x, 0.0)))

    return Smooth(function, derivative, inflections=(0.0,))


def _selu() -> Elementwise:
    return elu(alpha=1.6732632423543772, scale=1.0507009873554805)


def _swish() -> Elementwise:
    return Smooth(
        tf.nn.silu,
        lambda x: tf.sigmoid(x) + x * sigmoid_slope(x),
        inflections=(-2.3993573, 2.3993573),
        extrema=(-1.2784645,),
    )


def _mish() -> Elementwise:
    def derivative(x):
        part = tf.tanh(tf.math.softplus(x))
        return part + x * tf.sigmoid(x) * (1 - part**2)

    return Smooth(
        lambda x: x * tf.tanh(tf.math.softplus(x)),
        derivative,
        inflections=(-2.2563764, 1.4905712),
        extrema=(-1.1924312,),
    )


def _hard_swish() -> Elementwise:
    """x · min(max(x + 3, 0), 6) / 6. Its derivative jumps at -3 and 3, and rises between them."""
    return Smooth(
        lambda x: x * tf.nn.relu6(x + 3) / 6,
        lambda x: tf.where(tf.abs(x) <= 3, (2 * x + 3) / 6, tf.where(x > 0, tf.ones_like(x), 0.0)),
        inflections=(-3.0, 3.0),
        extrema=(-1.5,),
    )


def _hard_sigmoid() -> Elementwise:
    return Clipped(1.0, slope=compat.HARD_SIGMOID_SLOPE, offset=0.5)


# By Keras's names, with its defaults.
ACTIVATIONS: dict[str, Callable[[], Step]] = {
    "relu": LeakyReLU,
    "relu6": lambda: Clipped(6.0),
    "leaky_relu": lambda: LeakyReLU(0.2),
    "tanh": _tanh,
    "hard_tanh": lambda: Clipped(1.0, least=-1.0),
    "sigmoid": Sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "log_sigmoid": _log_sigmoid,
    "softmax": Softmax,
    "softplus": _softplus,
    "softsign": _softsign,
    "exponential": exponential,
    "elu": elu,
    "celu": elu,
    "selu": _selu,
    "swish": _swish,
    "silu": _swish,
    "hard_swish": _hard_swish,
    "hard_silu": _hard_swish,
    "mish": _mish,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,  # no name of Keras's
}
# Keras's functions of these names, those that it has, and TensorFlow's, which do the same by default.
_OF_FUNCTIONS = {
    getattr(module, name): steps
    for module in (tf.nn, keras.activations)
    for name, steps in ACTIVATIONS.items()
    if hasattr(module, name)
}

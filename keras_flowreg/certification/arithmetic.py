"""Operations of numbers, each on its own, of two of them, or of a number and a constant: `x + y`, `x / 255`, `keras.ops.exp(x)`."""

import math
from collections.abc import Callable, Sequence
from typing import Optional, Union

import numpy as np
import tensorflow as tf

from keras_flowreg.certification import curves
from keras_flowreg.certification.activation_rules import ACTIVATIONS
from keras_flowreg.certification.activations import LeakyReLU, ParametricReLU, Smooth
from keras_flowreg.certification.calls import LayerCall
from keras_flowreg.certification.merging_rules import (
    difference_step,
    greatest_steps,
    least_steps,
    negative_step,
    sum_step,
)
from keras_flowreg.certification.normalization_rules import Scale
from keras_flowreg.certification.products import Product, Square
from keras_flowreg.certification.steps import Step, Taking

Steps = Sequence[Union[Step, Taking]]

# By their names without underscores, in TensorFlow and in Keras 3. Activations are those that have no option, or one that is
# off by default.
_ACTIVATIONS = (
    *("relu", "relu6", "tanh", "sigmoid", "hard_sigmoid", "log_sigmoid", "softplus", "softsign"),
    *("silu", "swish", "hard_silu", "hard_swish", "gelu", "selu", "mish"),
)
_OF_ONE: dict[str, Callable[[], Step]] = {
    **{name.replace("_", ""): ACTIVATIONS[name] for name in _ACTIVATIONS},
    "negative": negative_step,
    "square": Square,
    "absolute": lambda: ParametricReLU(-1.0),
    "exp": curves.exponential,
    "log": curves.logarithm,
    "sqrt": curves.square_root,
    "rsqrt": curves.inverse_square_root,
    "reciprocal": curves.reciprocal,
    "erf": lambda: Smooth(tf.math.erf, lambda x: 2 / math.sqrt(math.pi) * tf.exp(-(x**2)), inflections=(0.0,)),
}
_OF_TWO: dict[str, Callable[[], Steps]] = {
    "add": lambda: [sum_step()],
    "subtract": lambda: [difference_step()],
    "squareddifference": lambda: [difference_step(), Square()],
    "multiply": lambda: [Product()],
    "divide": lambda: [Taking(curves.reciprocal(), (1,)), Taking(Product(), (0, -1))],
    "maximum": greatest_steps,
    "minimum": least_steps,
}
_WITH_A_CONSTANT: dict[str, Callable[[tf.Tensor], Steps]] = {
    "add": lambda constant: [Scale(1.0, constant)],
    "multiply": lambda constant: [Scale(constant, 0.0)],
    "maximum": lambda constant: [Scale(1.0, -constant), LeakyReLU(), Scale(1.0, constant)],
    "minimum": lambda constant: [Scale(-1.0, constant), LeakyReLU(), Scale(-1.0, constant)],
}
_WITH_A_CONSTANT_BEHIND: dict[str, Callable[[tf.Tensor], Steps]] = {
    **_WITH_A_CONSTANT,
    "subtract": lambda constant: [Scale(1.0, -constant)],
    "divide": lambda constant: [Scale(1 / constant, 0.0)],
}
_WITH_A_CONSTANT_BEFORE: dict[str, Callable[[tf.Tensor], Steps]] = {
    **_WITH_A_CONSTANT,
    "subtract": lambda constant: [Scale(-1.0, constant)],
    "divide": lambda constant: [curves.reciprocal(), Scale(constant, 0.0)],
}
_POWERS: dict[float, Callable[[], Step]] = {
    2: Square,
    0.5: curves.square_root,
    -0.5: curves.inverse_square_root,
    -1: curves.reciprocal,
}


def arithmetic_steps(name: str, call: LayerCall) -> Optional[Steps]:
    """The steps of an operation of one or two values, or of a value and a constant; `None` if there is no rule for it.

    Args:
      name: that of the operation.
      call: its call.
    """
    # Without options that are off, and the operation's name.
    arguments = [argument for argument in call.arguments if argument is not False and not isinstance(argument, str)]
    constants = [argument for argument in arguments if argument is not None]
    if len(arguments) == 1 and not constants:
        return [_OF_ONE[name]()] if name in _OF_ONE else None
    if len(arguments) != 2 or len(constants) > 1:
        return None
    if not constants:
        return _OF_TWO[name]() if name in _OF_TWO else None
    return _steps_with_a_constant(name, constants[0], is_behind=arguments[0] is None)


def _steps_with_a_constant(name, constant, is_behind):
    if name == "power":
        return _power(float(constant)) if is_behind and not np.ndim(constant) else None
    rules = _WITH_A_CONSTANT_BEHIND if is_behind else _WITH_A_CONSTANT_BEFORE
    return rules[name](tf.cast(constant, tf.float32)) if name in rules else None


def _power(exponent):
    if exponent in _POWERS:
        return [_POWERS[exponent]()]
    if exponent not in (3, 4):
        return None
    return [Square(), Taking(Product(), (0, -1)) if exponent == 3 else Square()]

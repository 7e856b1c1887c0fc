"""Rules for operations outside of layers, such as `x + y`, `x / 255` or `keras.ops.mean(x, axis=1)` in a functional model."""

from collections.abc import Callable, Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.certification.activation_rules import ACTIVATIONS
from keras_flowreg.certification.activations import LeakyReLU, ParametricReLU
from keras_flowreg.certification.linear_rules import Weightless
from keras_flowreg.certification.merging_rules import (
    difference_step,
    greatest_steps,
    least_steps,
    negative_step,
    sum_step,
)
from keras_flowreg.certification.normalization_rules import Scale
from keras_flowreg.certification.products import Product, Square
from keras_flowreg.certification.steps import Step
from keras_flowreg.ops import random

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
}
_OF_TWO: dict[str, Callable[[], list[Step]]] = {
    "add": lambda: [sum_step()],
    "subtract": lambda: [difference_step()],
    "multiply": lambda: [Product()],
    "maximum": greatest_steps,
    "minimum": least_steps,
}
_WITH_A_CONSTANT: dict[str, Callable[[tf.Tensor], list[Step]]] = {
    "add": lambda constant: [Scale(1.0, constant)],
    "multiply": lambda constant: [Scale(constant, 0.0)],
    "maximum": lambda constant: [Scale(1.0, -constant), LeakyReLU(), Scale(1.0, constant)],
    "minimum": lambda constant: [Scale(-1.0, constant), LeakyReLU(), Scale(-1.0, constant)],
}
_WITH_A_CONSTANT_BEHIND: dict[str, Callable[[tf.Tensor], list[Step]]] = {
    **_WITH_A_CONSTANT,
    "subtract": lambda constant: [Scale(1.0, -constant)],
    "divide": lambda constant: [Scale(1 / constant, 0.0)],
}
_WITH_A_CONSTANT_BEFORE: dict[str, Callable[[tf.Tensor], list[Step]]] = {
    **_WITH_A_CONSTANT,
    "subtract": lambda constant: [Scale(-1.0, constant)],
}
# They put values elsewhere, repeat them, or add some up.
_LINEAR = (
    *("reshape", "transpose", "swapaxes", "moveaxis", "squeeze", "expanddims", "spacetodepth", "depthtospace"),
    *("flip", "flipleftright", "flipupdown", "reverse", "roll", "getitem", "pad", "tile", "repeat", "identity"),
    *("concat", "concatenate", "stack", "sum", "reducesum", "mean", "reducemean"),
)
_OTHER_NAMES = {"truediv": "divide", "truedivide": "divide", "pow": "power", "abs": "absolute"}


def operation_steps(call: compat.LayerCall) -> Optional[list[Step]]:
    """The steps of an operation, or `None` if there is no rule for it, or it is the call of a layer."""
    name = compat.operation_name(call.layer)
    name = _OTHER_NAMES.get(name, name)
    if name in _LINEAR:
        return [_OfEachImage(call.function)]
    arguments = [argument for argument in call.arguments if argument is not False]  # An option that is off.
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
        return [Square()] if is_behind and np.array_equal(constant, 2) else None
    rules = _WITH_A_CONSTANT_BEHIND if is_behind else _WITH_A_CONSTANT_BEFORE
    return rules[name](tf.cast(constant, tf.float32)) if name in rules else None


class _OfEachImage(Weightless):
    """A linear operation, of which nobody knows yet that it leaves images of a batch apart."""

    def check(self, shapes: Sequence[Sequence[int]], layer: str) -> None:
        values = [random.uniform([2, *shape], (0, 0)) for shape in shapes]
        together = self.value(*values)
        alone = tf.concat([self.value(*(value[row : row + 1] for value in values)) for row in (0, 1)], axis=0)
        if together.shape != alone.shape or not np.allclose(together, alone, rtol=1e-4, atol=1e-6):
            raise ValueError(
                f"Expected operations on each image alone. Received {layer}, which mixes those of a batch."
            )
        super().check(shapes, layer)

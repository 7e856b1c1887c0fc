"""Rules for operations outside of layers, such as `x + y`, `x / 255` or `keras.ops.relu(x)` in a functional model."""

from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

from keras_flowreg.certification.activation_rules import ACTIVATIONS
from keras_flowreg.certification.merging_rules import difference_step, negative_step, sum_step
from keras_flowreg.certification.normalization_rules import Scale
from keras_flowreg.certification.products import Product
from keras_flowreg.certification.steps import Step

# Those that have no option, or one that is off by default.
_ACTIVATIONS = (
    *("relu", "relu6", "tanh", "sigmoid", "hard_sigmoid", "log_sigmoid", "softplus", "softsign"),
    *("silu", "swish", "hard_silu", "hard_swish", "gelu", "selu", "mish"),
)
_OF_ONE: dict[str, Callable[[], Step]] = {
    **{name.replace("_", ""): ACTIVATIONS[name] for name in _ACTIVATIONS},
    "negative": negative_step,
}
_OF_TWO: dict[str, Callable[[], Step]] = {"add": sum_step, "subtract": difference_step, "multiply": Product}
_WITH_A_CONSTANT_BEHIND: dict[str, Callable[[tf.Tensor], Step]] = {
    "add": lambda constant: Scale(1.0, constant),
    "subtract": lambda constant: Scale(1.0, -constant),
    "multiply": lambda constant: Scale(constant, 0.0),
    "divide": lambda constant: Scale(1 / constant, 0.0),
}
_WITH_A_CONSTANT_BEFORE: dict[str, Callable[[tf.Tensor], Step]] = {
    **{name: _WITH_A_CONSTANT_BEHIND[name] for name in ("add", "multiply")},
    "subtract": lambda constant: Scale(-1.0, constant),
}
_OTHER_NAMES = {"truediv": "divide", "truedivide": "divide"}


def operation_steps(name: str, arguments: Sequence[Any]) -> Optional[list[Step]]:
    """The steps of an operation, or `None` if there is no rule for it.

    Args:
      name: as `compat.operation_name` gives it; `""` for a layer.
      arguments: what it is called with, `None` for each value of the network.
    """
    name = _OTHER_NAMES.get(name, name)
    arguments = [argument for argument in arguments if argument is not False]  # An option that is off.
    constants = [argument for argument in arguments if argument is not None]
    activation = _OF_ONE.get(name.replace("_", ""))
    if activation is not None and len(arguments) == 1 and not constants:
        return [activation()]
    if len(arguments) != 2 or len(constants) > 1:
        return None
    if not constants:
        return [_OF_TWO[name]()] if name in _OF_TWO else None
    rules = _WITH_A_CONSTANT_BEHIND if arguments[0] is None else _WITH_A_CONSTANT_BEFORE
    return [rules[name](tf.cast(constants[0], tf.float32))] if name in rules else None

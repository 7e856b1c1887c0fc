"""The table of rules: for each class of layer, the steps that it is made of.

A rule is a function of a layer that returns its steps. The first step takes the layer's inputs, each further one what the
step before gives, or as `Taking` says. A rule reads the layer's weights when it is called.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Union

import keras
import tensorflow as tf
from keras import layers

from keras_flowreg import compat
from keras_flowreg.certification.steps import Linear, Step, Taking

Rule = Callable[[Any], Sequence[Union[Step, Taking]]]
_Rule = TypeVar("_Rule", bound=Rule)

_RULES: dict[type, Rule] = {}
_OF_OPERATIONS = (
    "an operation: of these, arithmetic, products with matrices and kernels, activations, and what moves values or adds them "
    "up have rules"
)
# What each does outside of training, if the class exists in this Keras.
_IDENTITIES = (
    *("Identity", "Dropout", "SpatialDropout2D", "GaussianDropout", "AlphaDropout", "GaussianNoise"),
    *("ActivityRegularization", "AugMix", "CutMix", "MixUp", "RandAugment"),
    *(name for name in dir(layers) if name.startswith("Random") and name != "RandomCrop"),  # which takes the middle
)


def register_rule(*classes: type) -> Callable[[_Rule], _Rule]:
    """A decorator: the function below it gives the steps of a class of layers.

    ```python
    class Half(keras.layers.Layer):
        def call(self, inputs):
            return inputs / 2


    @fr.certification.register_rule(Half)
    def _half(layer):
        return [fr.certification.Linear(lambda inputs: inputs / 2)]
    ```

    A layer without a rule is read from its `call`, where that takes symbolic tensors; see `certify`.

    The function takes a layer and returns a list of `Step`s: `Linear`, `Smooth`, `LeakyReLU`, `MaxPool`, `Product`, or your
    own. Each takes what the one before gives, unless it is in a `Taking`. It is for layers of exactly these classes, since a
    subclass may do something else. A rule that is registered later replaces an earlier one.

    Args:
      *classes: classes of Keras layers.

    Returns:
      A decorator.

    Raises:
      TypeError: if one is not a class of layers.
    """
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, layers.Layer)):
            raise TypeError(f"Expected classes of Keras layers. Received {cls!r}.")

    def register(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def has_rule(layer: Any) -> bool:
    """Whether there is a rule for a layer."""
    return type(layer) in _RULES


def steps_of(layer: keras.layers.Layer) -> list[Union[Step, Taking]]:
    """The steps of a layer, by its rule.

    Raises:
      ValueError: if its options are not covered.
    """
    expect_float32(layer)
    if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
        raise ValueError(f"Expected layers with channels last. Received {described(layer)} with channels first.")
    expect_no_quantization(layer)
    return list(_RULES[type(layer)](layer))


def expect_float32(layer: Any) -> None:
    """Checks that a layer computes in the precision that its bounds have."""
    if getattr(layer, "compute_dtype", "float32") != "float32":
        raise ValueError(
            f"Expected layers that compute in float32, as their bounds do. Received {described(layer)}, which "
            f"computes in {layer.compute_dtype}."
        )


def expect_no_quantization(layer: Any) -> None:
    """Checks that neither a layer nor those within it, whose weights its rule reads, are quantized."""
    for each in layer._flatten_layers():
        if getattr(each, "quantization_mode", None):
            raise ValueError(
                f"Expected layers whose weights are float32. Received {described(each)}, quantized to {each.quantization_mode}."
            )


def described(layer: Any) -> str:
    """A layer's name and class."""
    return f"{layer.name} ({type(layer).__name__})"


def unknown(layer: Any, reason: str = "") -> ValueError:
    """The error about a layer, or an operation, that has no rule."""
    if compat.is_operation(layer):
        reason = reason or _OF_OPERATIONS
    return ValueError(
        f"Expected layers with a rule for bounds. Received {described(layer)}{reason and ', '}{reason}. "
        "`certification.register_rule` takes a rule for a layer of your own."
    )


def _named(*names):
    """The classes of `keras.layers` of these names, that this Keras has."""
    return [getattr(layers, name) for name in names if hasattr(layers, name)]


@register_rule(*_named(*_IDENTITIES))
def _identity(layer):
    return []


@register_rule(layers.Flatten)
def _flatten(layer):
    return [Linear(lambda inputs: tf.reshape(inputs, [tf.shape(inputs)[0], -1]))]


@register_rule(layers.Reshape)
def _reshape(layer):
    return [Linear(lambda inputs: tf.reshape(inputs, [tf.shape(inputs)[0], *layer.target_shape]))]


@register_rule(layers.Permute)
def _permute(layer):
    return [Linear(lambda inputs: tf.transpose(inputs, [0, *layer.dims]))]


@register_rule(layers.ZeroPadding2D)
def _zero_padding(layer):
    return [Linear(lambda inputs: tf.pad(inputs, [[0, 0], *layer.padding, [0, 0]]))]


@register_rule(layers.Cropping2D)
def _cropping(layer):
    (top, bottom), (left, right) = layer.cropping
    return [Linear(lambda inputs: inputs[:, top : inputs.shape[1] - bottom, left : inputs.shape[2] - right])]

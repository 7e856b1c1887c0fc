"""Weights to begin certified training with."""

import math

import keras
import numpy as np

from keras_flowreg import compat
from keras_flowreg.ops.validation import expect_instance, expect_seed
from keras_flowreg.types import KerasModel


def initialize(model: KerasModel, seed: int = 0) -> None:
    """Draws the kernels of a model so that intervals keep their width from layer to layer.

        standard deviation = sqrt(2π) / n

    for n inputs of a unit. Weights as usual, of the order of 1 / sqrt(n), keep the size of values, but make intervals wider by a
    factor of the order of sqrt(n) in each layer.

    ```python
    fr.certification.initialize(model, seed=1)
    ```

    Args:
      model: a Keras model that is built. Its other weights stay as they are.
      seed: a whole number.

    Raises:
      TypeError: if `model` is not a Keras model.

    Reference: Shi et al., "Fast certified robust training with short warmup", 2021.
    """
    expect_instance("model", model, keras.Model)
    random = np.random.RandomState(expect_seed(seed) % 2**32)
    for layer in compat.all_layers(model):
        for weights in layer.trainable_weights if len(compat.all_layers(layer)) == 1 else ():
            shape = tuple(weights.shape)
            if len(shape) > 1:
                inputs = np.prod(shape[:2] if _is_depthwise(layer, weights) else shape[:-1])
                weights.assign(math.sqrt(2 * math.pi) / inputs * random.randn(*shape))


def _is_depthwise(layer, weights):
    """Whether each unit of a kernel sees one channel."""
    name = weights.name.split("/")[-1]
    return isinstance(layer, (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)) and "pointwise" not in name

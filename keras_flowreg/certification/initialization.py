"""Weights to begin certified training with."""

import math
from typing import Any

import keras
import numpy as np

from keras_flowreg import compat
from keras_flowreg.ops.validation import expect_instance, expect_seed
from keras_flowreg.types import KerasModel

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


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
        for name in _KERNELS:
            kernel: Any = getattr(layer, name, None)
            if any(kernel is weights for weights in layer.trainable_weights):
                shape = tuple(kernel.shape)
                kernel.assign(math.sqrt(2 * math.pi) / _inputs(layer, name, shape) * random.randn(*shape))


def _inputs(layer, name, shape):
    """How many inputs a unit has."""
    is_depthwise = name == "depthwise_kernel" or isinstance(layer, keras.layers.DepthwiseConv2D)
    if is_depthwise:  # Each unit sees one channel.
        return np.prod(shape[:2])
    return np.prod(shape[:2] + shape[-1:] if isinstance(layer, keras.layers.Conv2DTranspose) else shape[:-1])

"""Names for the shapes that signatures speak of.

They are for the reader and for a type checker: nothing is checked by them when the code runs. What is passed in may be an
array or a tensor; what comes back is a tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Union

import keras
import numpy as np
import tensorflow as tf

TensorLike = Union[tf.Tensor, np.ndarray]

Images = TensorLike  # [batch, height, width, channels]
FlowField = TensorLike  # [batch, height, width, 2]: (dy, dx) in pixels
Parameters = TensorLike  # [batch, ...]: the θ of a perturbation
Labels = TensorLike  # [batch], or as the loss takes them
Predictions = TensorLike  # [batch, classes]: logits or probabilities
PerExample = tf.Tensor  # [batch]
Scalar = tf.Tensor  # []

Pullback = Callable[[tf.Tensor], tf.Tensor]  # from ∂loss/∂T, of the shape of the images, to ∂loss/∂θ
LossFunction = Callable[..., tf.Tensor]  # (labels, predictions): a keras.losses.Loss, or a function
Loss = Union[str, LossFunction]  # the same, or its name
Seed = Union[tf.Tensor, Sequence[int]]  # two integers
ValueRange = tuple[float, float]  # the least and the greatest value of an image
JitCompile = Union[bool, Literal["auto"]]  # whether to compile with XLA
Number = Union[float, tf.Tensor]

Config = dict[str, Any]  # what Keras saves of an object: the arguments of its constructor
Logs = dict[str, float]  # what Keras writes down after an epoch
KerasModel = keras.Model  # from images to predictions

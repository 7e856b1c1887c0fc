"""Conversions from the paper's normalized coordinates to the pixels that this library uses, and back.

Normalized coordinates run from -1, the centre of the first pixel, to 1, the centre of the last one. So one normalized unit
is (size - 1) / 2 pixels.
"""

from typing import Union

import numpy as np
import tensorflow as tf

from keras_flowreg.ops.validation import expect_not_negative, expect_number, expect_positive_integer
from keras_flowreg.types import TensorLike

Displacement = Union[float, TensorLike]


def _pixels_per_unit(image_size: int) -> float:
    if expect_positive_integer("image_size", image_size) < 2:
        raise ValueError(f"Expected `image_size` to be at least 2 pixels. Received {image_size}.")
    return (image_size - 1) / 2


def _expect_displacement(displacement):
    is_array = tf.is_tensor(displacement) or isinstance(displacement, np.ndarray)
    return displacement if is_array else expect_number("displacement", displacement)


def pixels_from_normalized(displacement: Displacement, image_size: int) -> Displacement:
    """Converts a displacement from normalized coordinates to pixels.

    ```python
    print(fr.pixels_from_normalized(0.01, image_size=32))  # 0.155
    ```

    Args:
      displacement: a number or an array, in normalized coordinates from -1 to 1.
      image_size: how many pixels the image has along the displacement's axis.

    Returns:
      The displacement in pixels.
    """
    return _expect_displacement(displacement) * _pixels_per_unit(image_size)


def normalized_from_pixels(displacement: Displacement, image_size: int) -> Displacement:
    """Converts a displacement from pixels to normalized coordinates.

    ```python
    print(fr.normalized_from_pixels(0.155, image_size=32))  # 0.01
    ```

    Args:
      displacement: a number or an array, in pixels.
      image_size: how many pixels the image has along the displacement's axis.

    Returns:
      The displacement in normalized coordinates from -1 to 1.
    """
    return _expect_displacement(displacement) / _pixels_per_unit(image_size)


def weight_from_paper(weight: float, batch_size: int, image_size: int) -> float:
    """Converts the paper's regularization weight λ to this library's.

        weight = λ · ((image_size - 1) / 2)² / batch_size²

    The authors differentiate the mean loss of a batch with respect to normalized coordinates, and average the squared
    norms over the batch. This library differentiates each example's own loss with respect to pixels.

    ```python
    weight = fr.weight_from_paper(300, batch_size=128, image_size=32)  # 4.40
    regularizer = fr.FlowGradientRegularizer(weight)
    ```

    Args:
      weight: the paper's λ.
      batch_size: how many images a batch of the authors has: 128.
      image_size: height and width of the images, in pixels.

    Returns:
      The weight for `FlowGradientRegularizer`.

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021, and its
    authors' published code.
    """
    batch_size = expect_positive_integer("batch_size", batch_size)
    return expect_not_negative("weight", weight) * (_pixels_per_unit(image_size) / batch_size) ** 2

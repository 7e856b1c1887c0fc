"""Conversions between the paper's normalized coordinates and the pixels that everything here is in.

Normalized coordinates run from -1, the centre of the first pixel, to 1, the centre of the last:
one normalized unit is (size - 1) / 2 pixels.
"""

from keras_flowreg.ops.validation import expect_not_negative, expect_positive_integer


def _pixels_per_unit(image_size):
    if expect_positive_integer("image_size", image_size) < 2:
        raise ValueError(f"Expected `image_size` to be at least 2 pixels. Received {image_size}.")
    return (image_size - 1) / 2


def pixels_from_normalized(displacement, image_size):
    """Converts a displacement in normalized coordinates to pixels: 0.01 at 32 pixels is 0.155.

    Args:
      displacement: a number or an array, in normalized [-1, 1] coordinates.
      image_size: pixels along the displacement's axis.

    Returns:
      The displacement in pixels.
    """
    return displacement * _pixels_per_unit(image_size)


def normalized_from_pixels(displacement, image_size):
    """Converts a displacement in pixels to normalized coordinates; see `pixels_from_normalized`."""
    return displacement / _pixels_per_unit(image_size)


def weight_from_paper(weight, batch_size, image_size):
    """Converts the paper's regularization weight λ to this library's.

    The authors differentiate the mean loss of a batch with respect to normalized coordinates, and
    take the mean over the batch of the squared norms. Here each example's own loss is differentiated
    with respect to pixels, so that

        weight = λ · ((image_size - 1) / 2)² / batch_size²

    λ = 300 with batches of 128 images of 32x32 pixels is 4.40.

    Args:
      weight: the paper's λ.
      batch_size: images in one of the authors' batches (128).
      image_size: height and width of the images, in pixels.

    Returns:
      The weight for `FlowGradientRegularizer`.

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing
    Gradients", 2021, and its authors' published code.
    """
    batch_size = expect_positive_integer("batch_size", batch_size)
    return expect_not_negative("weight", weight) * (_pixels_per_unit(image_size) / batch_size) ** 2

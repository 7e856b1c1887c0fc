"""Early, clear errors for images, models, parameters and sizes that do not fit each other."""

from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from keras_flowreg.types import KerasModel, Parameters
from keras_flowreg.wrapped import Restored, classifier_of


def expect_images_of(model: KerasModel, images: tf.Tensor) -> None:
    """Checks that a model takes nothing but images, and of their shape, as far as that is known."""
    inputs = getattr(classifier_of(model), "inputs", None) or ()
    if len(inputs) > 1:
        raise ValueError(f"Expected a model with one input, of images. Received one with {len(inputs)}.")
    known = _batches_of(model)
    if not images.shape.is_compatible_with(known):
        raise ValueError(f"Expected `images` of the shape {known}, which the model takes. Received {images.shape}.")


def with_known_sizes(model: KerasModel, images: tf.Tensor) -> tf.Tensor:
    """Images whose static shape has the sizes that a model takes, if it says so.

    Raises:
      ValueError: if a size stays unknown.
    """
    known = _batches_of(model)
    if known.rank is not None:
        images = tf.ensure_shape(images, known)
    if images.shape.rank is None or None in images.shape[1:]:
        raise ValueError(
            "Expected images of a known height, width and number of channels, or a model with an input of such a shape. "
            f"Received images of the shape {images.shape}."
        )
    return images


def _batches_of(model):
    """The shape of the batches of images that a model takes, as far as it is known."""
    return tf.TensorShape([None]).concatenate(image_shape_of(model))


def image_shape_of(model: KerasModel) -> tf.TensorShape:
    """`[height, width, channels]` of the images that a model takes, as far as it says so."""
    classifier = classifier_of(model)
    if isinstance(classifier, Restored):
        return tf.TensorShape(classifier.image_shape)
    inputs = getattr(classifier, "inputs", None)
    # Keras 2 keeps the batch that a subclassed model met first: its size says nothing.
    return tf.TensorShape(inputs[0].shape[1:] if inputs and inputs[0].shape is not None else None)


def expect_parameters(parameters: Parameters, shape: Sequence[Optional[int]]) -> None:
    """Checks that the θ of a perturbation has its shape, one for each image."""
    if not parameters.shape.is_compatible_with(shape):
        raise ValueError(
            f"Expected the perturbation's parameters to have the shape {tf.TensorShape(shape)}. "
            f"Received {parameters.shape}."
        )


def expect_within_images(name: str, pixels: Optional[float], images: tf.Tensor) -> None:
    """Checks that a displacement, in pixels, is not longer than the images' longer side."""
    sizes = [size for size in images.shape[1:3] if size is not None] if images.shape.rank else []
    if pixels is not None and len(sizes) == 2 and pixels > max(sizes):
        raise ValueError(
            f"Expected `{name}` to be in pixels, and at most {max(sizes)}, the longer side of the images. "
            f"Received {pixels:g}."
        )

"""Early, clear errors for models that are no classifiers, and for images, models, parameters and sizes that do not fit."""

from collections.abc import Sequence
from typing import Any, Optional

import keras
import tensorflow as tf

from keras_flowreg.types import KerasModel, Parameters, Predictions
from keras_flowreg.wrapped import Restored, classifier_of


def expect_classifier(name: str, model: KerasModel) -> KerasModel:
    """Checks that a Keras model has one input and one output; returns it."""
    if not isinstance(model, keras.Model):
        hint = ""
        if type(model).__module__.startswith("tf_keras"):
            hint = " It is of Keras 2 (tf_keras): save it to a .h5 file, and load that by `load_classifier`."
        raise TypeError(f"Expected `{name}` to be a keras.Model. Received {model!r}.{hint}")
    for side in ("inputs", "outputs"):
        tensors = getattr(model, side, None) or []
        if len(tensors) > 1:
            raise ValueError(
                f"Expected `{name}` to map one batch of images to one batch of predictions. "
                f"Received a model with {len(tensors)} {side}."
            )
    if isinstance(getattr(model, "output", None) if getattr(model, "outputs", None) else None, dict):
        raise ValueError(
            f"Expected `{name}` to give a tensor of predictions. Received a model that gives a dictionary: take its entry "
            "by keras.Model(model.inputs, model.output[...])."
        )
    first: Any = next((layer for layer in getattr(model, "layers", []) if _decides_the_format(layer)), None)
    if getattr(first, "data_format", None) == "channels_first":
        raise ValueError(
            f"Expected `{name}` to take images whose channels come last, since a flow moves height and width. Received a "
            f"model whose layer {first.name!r} takes channels first: put keras.layers.Permute((3, 1, 2)) before it."
        )
    return model


def _decides_the_format(layer):
    """Whether a layer tells height, width and channels apart, or moves them."""
    return hasattr(layer, "data_format") or type(layer).__name__ in ("Permute", "Reshape", "Lambda")


def expect_one_output(predictions: Any) -> Predictions:
    """Checks that what a model gives is a tensor, or a symbol of one; returns it."""
    if not hasattr(predictions, "shape"):
        raise ValueError(
            "Expected a model with one output, logits or probabilities [batch, classes]. "
            f"Received a model that gives {type(predictions).__name__}: wrap it in one that gives its predictions alone."
        )
    return predictions


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

"""What a model tells of the classifier in it."""

from typing import Optional

from keras_flowreg.types import KerasModel


class Wrapper:
    """What a model is that trains another one, its `base_model`."""

    base_model: KerasModel


class OfImages:
    """What a model without Keras's inputs is that says which images it takes."""

    image_shape: tuple[Optional[int], ...]  # (height, width, channels), with `None` for any


def classifier_of(model: KerasModel) -> KerasModel:
    """The classifier itself: the base model of a `Wrapper`, or the model."""
    return model.base_model if isinstance(model, Wrapper) else model

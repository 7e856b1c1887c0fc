"""The classifier in a model that trains it."""

from keras_flowreg.types import KerasModel


class Wrapper:
    """What a model is that trains another one, its `base_model`."""

    base_model: KerasModel


def classifier_of(model: KerasModel) -> KerasModel:
    """The classifier itself: the base model of a `Wrapper`, or the model."""
    return model.base_model if isinstance(model, Wrapper) else model

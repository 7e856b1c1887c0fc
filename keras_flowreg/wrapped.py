"""What a model tells of the classifier in it."""

from typing import Optional

import tensorflow as tf

from keras_flowreg.types import KerasModel


class Wrapper:
    """What a model is that trains another one, its `base_model`."""

    base_model: KerasModel


class Restored:
    """What a model is that calls one of which Keras knows neither inputs nor weights."""

    image_shape: tuple[Optional[int], ...]  # (height, width, channels), with `None` for any

    def restored_variables(self) -> list[tf.Variable]:
        """The weights, in the order of `get_weights`."""
        raise NotImplementedError


def classifier_of(model: KerasModel) -> KerasModel:
    """The classifier itself: the base model of a `Wrapper`, or the model."""
    return model.base_model if isinstance(model, Wrapper) else model

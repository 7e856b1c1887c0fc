"""Factors that schedules set while a model is trained."""

import types
from typing import Any, Optional

import keras
import tensorflow as tf


class ScaledModel(keras.Model):
    """A Keras model with factors of what it trains by, which callbacks may set while `fit` runs.

    They are 1 again after each `fit`, also after one that an error or a user ends. They are no weights of the model: nothing
    saves them, and no weights that are loaded change them.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        # Keras does not look into it for variables.
        self._scales = types.SimpleNamespace()

    @property
    def penalty_scale(self) -> Optional[tf.Variable]:
        return getattr(self._scales, "penalty_scale", None)

    @property
    def epsilon_scale(self) -> Optional[tf.Variable]:
        return getattr(self._scales, "epsilon_scale", None)

    @property
    def attack_scale(self) -> Optional[tf.Variable]:
        return getattr(self._scales, "attack_scale", None)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains the model as `keras.Model.fit` does, with the same arguments."""
        try:
            return super().fit(*args, **kwargs)
        finally:
            for scale in vars(self._scales).values():
                scale.assign(1.0)

    def _add_scale(self, name):
        setattr(self._scales, name, tf.Variable(1.0, trainable=False, name=name))

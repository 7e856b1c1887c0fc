"""Schedules of the penalty, of its radius and of the attack."""

import math
from typing import Optional

import keras

from keras_flowreg.ops.validation import expect_fraction, expect_not_negative, expect_one_of
from keras_flowreg.types import Logs

SHAPES = ("linear", "cosine")


class _Warmup(keras.callbacks.Callback):
    """Raises one of the model's variables from a fraction of its value to all of it.

    The variable depends on the epoch and the batch alone. So no step is traced again, and a training that
    `BackupAndRestore` resumes goes on where it was. The variable is set before each batch (with `steps_per_execution`,
    before each execution). Validation, and whatever comes after the training, has all of it: so `val_loss` means the same
    in each epoch, and a training that EarlyStopping cuts short leaves no part of the value behind.
    """

    _part: str  # what the model must have: an attribute that is not `None`
    _scale: str  # the variable that is raised

    def __init__(self, epochs: float, start: float = 0.0, shape: str = "linear"):
        super().__init__()
        self.epochs = expect_not_negative("epochs", epochs)
        self.start = expect_fraction("start", start)
        self.shape = expect_one_of("shape", shape, SHAPES)
        self._epoch = 0

    def weight_fraction(self, epochs: float) -> float:
        """The fraction of the value after a number of epochs, whole or not."""
        progress = min(epochs / self.epochs, 1.0) if self.epochs else 1.0
        if self.shape == "cosine":
            progress = (1 - math.cos(progress * math.pi)) / 2
        return self.start + (1 - self.start) * progress

    def on_train_begin(self, logs: Optional[Logs] = None) -> None:
        if getattr(self.model, self._part, None) is None:
            raise ValueError(
                f"Expected a FlowRegularizedModel with `{self._part}`, for {type(self).__name__} to raise. "
                f"Received {self.model!r}."
            )

    def on_epoch_begin(self, epoch: int, logs: Optional[Logs] = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Optional[Logs] = None) -> None:
        # The number of batches is not known in the first epoch of some datasets: the value then waits.
        batches = self.params.get("steps")
        epochs = self._epoch + (batch / batches if batches else 0)
        self._set(self.weight_fraction(epochs))

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        self._set(1.0)  # Whoever keeps the weights of an epoch keeps the whole value.

    def on_test_begin(self, logs: Optional[Logs] = None) -> None:
        self._set(1.0)

    def on_train_end(self, logs: Optional[Logs] = None) -> None:
        self._set(1.0)

    def _set(self, fraction):
        getattr(self.model, self._scale).assign(fraction)


class PenaltyWarmup(_Warmup):
    """Raises the penalty's weight from a fraction of the regularizer's to all of it.

    A strong penalty from the first step can collapse training to a constant classifier. Validation always has the whole
    weight. So `val_loss` can be monitored by EarlyStopping and ModelCheckpoint, and falls while the weight rises.

    ```python
    regularized = fr.FlowRegularizedModel(model, fr.FlowGradientRegularizer(weight=4.4))
    regularized.compile("sgd", model.loss)
    regularized.fit(images, labels, epochs=2, verbose=0, callbacks=[fr.callbacks.PenaltyWarmup(epochs=1)])
    ```

    Args:
      epochs: for how many epochs the weight rises. It need not be whole.
      start: the fraction of the weight to begin with, from 0 to 1.
      shape: how the weight rises: `"linear"`, or `"cosine"` for half a period of one.

    Raises:
      ValueError: if an argument is out of its range, or at the start of `fit` if the model has no regularizer.
    """

    _part, _scale = "regularizer", "penalty_scale"


class EpsilonWarmup(_Warmup):
    """Raises the radius that a regularizer bounds, from a fraction of its ε to all of it.

    ```python
    regularized = fr.FlowRegularizedModel(model, fr.IntervalBoundRegularizer(epsilon=0.4))
    regularized.compile("adam", model.loss)
    regularized.fit(images, labels, epochs=2, verbose=0, callbacks=[fr.callbacks.EpsilonWarmup(epochs=1)])
    ```

    Args:
      epochs: for how many epochs the radius rises. It need not be whole.
      start: the fraction to begin with, from 0 to 1.
      shape: how it rises: `"linear"`, or `"cosine"` for half a period of one.

    Raises:
      ValueError: if an argument is out of its range, or at the start of `fit` if no regularizer has a radius.
    """

    _part, _scale = "epsilon_scale", "epsilon_scale"


class AttackWarmup(_Warmup):
    """Raises the adversarial perturbation that is trained on, from a fraction of what the attack finds to all of it.

    θ is multiplied by the fraction. So a flow keeps to the ball of that fraction of ε.

    ```python
    attacked = fr.FlowRegularizedModel(model, attack=fr.attacks.FlowFGSM(epsilon=0.4))
    attacked.compile("sgd", model.loss)
    attacked.fit(images, labels, epochs=2, verbose=0, callbacks=[fr.callbacks.AttackWarmup(epochs=1)])
    ```

    Args:
      epochs: for how many epochs the perturbation rises. It need not be whole.
      start: the fraction to begin with, from 0 to 1.
      shape: how it rises: `"linear"`, or `"cosine"` for half a period of one.

    Raises:
      ValueError: if an argument is out of its range, or at the start of `fit` if the model has no attack.
    """

    _part, _scale = "attack", "attack_scale"

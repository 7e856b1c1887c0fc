"""Callbacks: schedules of the penalty and of the attack, and monitors of gradients and of robustness."""

import math
from typing import Any, Optional

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.attacks import Attack
from keras_flowreg.batches import Batches, Data
from keras_flowreg.gradients import input_gradients
from keras_flowreg.ops.validation import as_images, expect_fraction, expect_instance, expect_not_negative, expect_one_of
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow
from keras_flowreg.types import KerasModel, Logs

SHAPES = ("linear", "cosine")


class _Warmup(keras.callbacks.Callback):
    """Raises one of the model's variables from a fraction of its value to all of it.

    The variable depends on the epoch and the batch alone. So no step is traced again, and a training that
    `BackupAndRestore` resumes goes on where it was. The variable is set before each batch (with `steps_per_execution`,
    before each execution). Validation, and whatever comes after the training, has all of it: so `val_loss` means the same
    in each epoch, and a training that EarlyStopping cuts short leaves no part of the value behind.
    """

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

    def on_epoch_begin(self, epoch: int, logs: Optional[Logs] = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Optional[Logs] = None) -> None:
        # The number of batches is not known in the first epoch of some datasets: the value then waits.
        batches = self.params.get("steps")
        epochs = self._epoch + (batch / batches if batches else 0)
        self._set(self.weight_fraction(epochs))

    def on_test_begin(self, logs: Optional[Logs] = None) -> None:
        self._set(1.0)

    def on_train_end(self, logs: Optional[Logs] = None) -> None:
        self._set(1.0)

    def _set(self, fraction):
        raise NotImplementedError

    def _expect(self, part):
        """Checks that the model has what is to be raised."""
        if getattr(self.model, part, None) is None:
            raise ValueError(
                f"Expected a FlowRegularizedModel with `{part}`, for {type(self).__name__} to raise. "
                f"Received {self.model!r}."
            )


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

    def on_train_begin(self, logs: Optional[Logs] = None) -> None:
        self._expect("regularizer")

    def _set(self, fraction):
        self.model.penalty_weight.assign(self.model.regularizer.weight * fraction)


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

    def on_train_begin(self, logs: Optional[Logs] = None) -> None:
        self._expect("epsilon_scale")

    def _set(self, fraction):
        self.model.epsilon_scale.assign(fraction)


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

    def on_train_begin(self, logs: Optional[Logs] = None) -> None:
        self._expect("attack")

    def _set(self, fraction):
        self.model.attack_scale.assign(fraction)


class RobustAccuracyMonitor(keras.callbacks.Callback):
    """Adds to the logs, after each epoch, `val_robust_accuracy`: the accuracy on held-out images under an attack.

    The attack attacks the model that is trained. Put this before the callbacks that read it: ModelCheckpoint,
    EarlyStopping, TensorBoard, CSVLogger.

    ```python
    monitor = fr.callbacks.RobustAccuracyMonitor(fr.attacks.FlowPGD(epsilon=0.4, steps=5), (images, labels))
    history = model.fit(images, labels, verbose=0, callbacks=[monitor]).history
    print(history["val_robust_accuracy"])
    ```

    Args:
      attack: an untargeted `Attack`.
      validation_data: two arrays `(images, labels)`, or batches of them in any form that `fit` takes and that can be read
        again after each epoch; see `batches.Batches`.
      batch_size: how many examples a batch of the arrays has.
      batches: how many batches to attack; `None` for all.

    Raises:
      TypeError: if `attack` is not an `Attack`.
      ValueError: if `validation_data` is not such data, empty, or without an end.
    """

    def __init__(self, attack: Attack, validation_data: Data, batch_size: int = 128, batches: Optional[int] = None):
        super().__init__()
        self.attack = expect_instance("attack", attack, Attack)
        if attack.targeted:
            raise ValueError("Expected an untargeted attack, whose success is an error. Received targeted=True.")
        self._data = Batches(validation_data, "validation_data", batch_size=batch_size, batches=batches)

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        fooled = [self.attack.run(images, labels, model=self.model).success for images, labels in self._data]
        if logs is not None:
            logs["val_robust_accuracy"] = 1 - float(np.mean(np.concatenate(fooled)))


class FlowGradientMonitor(keras.callbacks.Callback):
    """Measures how steep the loss is on held-out images, after each epoch.

    It adds two numbers to the logs, means over the examples of the ℓ2 norms of the loss's gradients:
    `val_flow_gradient_norm`, with respect to a flow at zero, per pixel; and `val_input_gradient_norm`, with respect to the
    image's values. Put it before the callbacks that read them: TensorBoard, CSVLogger, EarlyStopping. It works on any
    compiled Keras classifier.

    ```python
    monitor = fr.callbacks.FlowGradientMonitor((images, labels))
    history = model.fit(images, labels, verbose=0, callbacks=[monitor]).history
    print(history["val_flow_gradient_norm"], history["val_input_gradient_norm"])
    ```

    Args:
      validation_data: two arrays `(images, labels)`, or batches of them in any form that `fit` takes and that can be read
        again after each epoch; see `batches.Batches`.
      batch_size: how many examples a batch of the arrays has.
      batches: how many batches to measure; `None` for all.
      lattice: the warp's derivative at integer positions: `"forward"`, `"backward"` or `"central"`; see `ops.warp`.

    Raises:
      ValueError: if `validation_data` is not such data, empty, or without an end.
    """

    def __init__(
        self,
        validation_data: Data,
        batch_size: int = 128,
        batches: Optional[int] = None,
        lattice: str = "central",
    ):
        super().__init__()
        self._data = Batches(validation_data, "validation_data", batch_size=batch_size, batches=batches)
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)
        self._norms: Any = None

    def set_model(self, model: KerasModel) -> None:
        super().set_model(model)
        self._norms = None

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        if self._norms is None:
            self._norms = tf.function(self._gradient_norms, reduce_retracing=True)
        batches = [self._norms(images, labels) for images, labels in self._data]
        flow_norms, input_norms = (tf.concat(norms, axis=0) for norms in zip(*batches))
        if logs is not None:
            logs["val_flow_gradient_norm"] = float(tf.reduce_mean(flow_norms))
            logs["val_input_gradient_norm"] = float(tf.reduce_mean(input_norms))

    def _gradient_norms(self, images, labels):
        upstream = input_gradients(self.model, images, labels)
        _, pull_back = Flow(self.lattice).linearize_at_identity(as_images(images))
        return _norms(pull_back(upstream)), _norms(upstream)


class RestoreOrder(keras.callbacks.Callback):
    """Gives a training that `BackupAndRestore` resumes the order of examples that it would have had.

    How a data set is shuffled and augmented depends on how often it was iterated over. At the start of `fit` this
    iterates over it once for each epoch that is done. Put it after `BackupAndRestore`.

    ```python
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(8, seed=0).batch(4)
    model.fit(dataset, verbose=0, callbacks=[fr.callbacks.RestoreOrder(dataset)])
    ```

    Args:
      dataset: the `tf.data.Dataset` that `fit` is given, with seeds of its own and a known number of batches.

    Raises:
      TypeError: if it is no such data set.
      ValueError: if it has no known end.
    """

    def __init__(self, dataset: tf.data.Dataset):
        super().__init__()
        self._dataset = expect_instance("dataset", dataset, tf.data.Dataset)
        if dataset.cardinality() < 0:
            raise ValueError("Expected `dataset` to know how many batches it has. Received one without a known end.")

    def on_train_begin(self, logs: Optional[Logs] = None) -> None:
        epochs_done = self.model.optimizer.iterations.numpy() // len(self._dataset)
        for _ in range(epochs_done * compat.ITERATORS_PER_EPOCH):
            iter(self._dataset)


def _norms(gradients):
    return tf.norm(tf.reshape(gradients, [tf.shape(gradients)[0], -1]), axis=1)

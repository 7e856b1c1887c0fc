"""Callbacks: schedules of the penalty and of the attack, and monitors of gradients and of robustness."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.attacks import Attack
from keras_flowreg.gradients import input_gradients
from keras_flowreg.ops.validation import as_images, expect_fraction, expect_instance, expect_not_negative, expect_one_of
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow

SHAPES = ("linear", "cosine")


class _Warmup(keras.callbacks.Callback):
    """Raises one of the model's variables from a fraction of its value to all of it.

    The variable depends on the epoch and batch alone, so that no step is traced again, and a training resumed
    by `BackupAndRestore` goes on where it was. It is set before each batch (with `steps_per_execution`, before
    each execution).
    """

    def __init__(self, epochs, start=0.0, shape="linear"):
        super().__init__()
        self.epochs = expect_not_negative("epochs", epochs)
        self.start = expect_fraction("start", start)
        self.shape = expect_one_of("shape", shape, SHAPES)
        self._epoch = 0

    def weight_fraction(self, epochs):
        """The fraction of the value after so many (whole or fractional) epochs."""
        progress = min(epochs / self.epochs, 1.0) if self.epochs else 1.0
        if self.shape == "cosine":
            progress = (1 - math.cos(progress * math.pi)) / 2
        return self.start + (1 - self.start) * progress

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        # The number of batches is not known in the first epoch of some datasets: the value then waits.
        batches = self.params.get("steps")
        epochs = self._epoch + (batch / batches if batches else 0)
        self._set(self.weight_fraction(epochs))

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

    A strong penalty from the first step can collapse training to a constant classifier.

    Args:
      epochs: how long the weight rises, in epochs; may be fractional.
      start: the fraction of the weight to begin with, from 0 to 1.
      shape: `"linear"`, or `"cosine"` (half a period).

    Raises:
      ValueError: if an argument is out of its range, or at the start of `fit` if the model has no regularizer.
    """

    def on_train_begin(self, logs=None):
        self._expect("regularizer")

    def _set(self, fraction):
        self.model.penalty_weight.assign(self.model.regularizer.weight * fraction)


class AttackWarmup(_Warmup):
    """Raises the adversarial perturbation that is trained on from a fraction of what the attack finds to all.

    θ is multiplied by the fraction, so that a flow keeps to the ball of that fraction of ε.

    Args:
      epochs, start, shape: as `PenaltyWarmup`.

    Raises:
      ValueError: if an argument is out of its range, or at the start of `fit` if the model has no attack.
    """

    def on_train_begin(self, logs=None):
        self._expect("attack")

    def _set(self, fraction):
        self.model.attack_scale.assign(fraction)


class RobustAccuracyMonitor(keras.callbacks.Callback):
    """Adds to the logs, after each epoch, `val_robust_accuracy`: the accuracy on held-out images under an attack.

    Put it before the callbacks that read it: ModelCheckpoint, EarlyStopping, TensorBoard, CSVLogger.

    Args:
      attack: an untargeted `Attack`. It attacks the model that is trained.
      validation_data: `(images, labels)` arrays, or a `tf.data.Dataset` of such batches.
      batch_size: for arrays.
      batches: how many batches to attack; `None` for all.

    Raises:
      TypeError: if `attack` is not an `Attack`.
      ValueError: if `validation_data` is not such data, or empty.
    """

    def __init__(self, attack, validation_data, batch_size=128, batches=None):
        super().__init__()
        self.attack = expect_instance("attack", attack, Attack)
        if attack.targeted:
            raise ValueError("Expected an untargeted attack, whose success is an error. Received targeted=True.")
        self.dataset = _as_dataset(validation_data, batch_size, batches)

    def on_epoch_end(self, epoch, logs=None):
        fooled = [self.attack.run(images, labels, model=self.model).success for images, labels in self.dataset]
        _expect_batches(fooled)
        if logs is not None:
            logs["val_robust_accuracy"] = 1 - float(np.mean(np.concatenate(fooled)))


class FlowGradientMonitor(keras.callbacks.Callback):
    """Measures how steep the loss is on held-out images, after each epoch.

    Adds to the logs the mean over examples of the ℓ2 norms of the loss's gradients:
    `val_flow_gradient_norm` (with respect to a flow at zero, per pixel) and `val_input_gradient_norm` (with
    respect to the image's values). Put it before the callbacks that read them: TensorBoard, CSVLogger,
    EarlyStopping. It works on any compiled Keras classifier.

    Args:
      validation_data: `(images, labels)` arrays, or a `tf.data.Dataset` of such batches.
      batch_size: for arrays.
      batches: how many batches to measure; `None` for all.
      lattice: the warp's derivative at integer positions, one of `"forward"`, `"backward"`, `"central"`.

    Raises:
      ValueError: if `validation_data` is neither, or empty.
    """

    def __init__(self, validation_data, batch_size=128, batches=None, lattice="central"):
        super().__init__()
        self.dataset = _as_dataset(validation_data, batch_size, batches)
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)
        self._norms = None

    def set_model(self, model):
        super().set_model(model)
        self._norms = None

    def on_epoch_end(self, epoch, logs=None):
        if self._norms is None:
            self._norms = tf.function(self._gradient_norms, reduce_retracing=True)
        batches = [self._norms(images, labels) for images, labels in self.dataset]
        _expect_batches(batches)
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
      dataset: the `tf.data.Dataset` that `fit` is given, with seeds of its own.
    """

    def __init__(self, dataset: tf.data.Dataset):
        super().__init__()
        self._dataset = expect_instance("dataset", dataset, tf.data.Dataset)

    def on_train_begin(self, logs=None):
        epochs_done = self.model.optimizer.iterations.numpy() // len(self._dataset)
        for _ in range(epochs_done * compat.ITERATORS_PER_EPOCH):
            iter(self._dataset)


def _norms(gradients):
    return tf.norm(tf.reshape(gradients, [tf.shape(gradients)[0], -1]), axis=1)


def _expect_batches(batches):
    if not batches:
        raise ValueError("Expected `validation_data` to hold at least one batch. Received none.")


def _as_dataset(data, batch_size, batches):
    """The first `batches` batches of the data; all for `None`."""
    if isinstance(data, (tuple, list)) and len(data) == 2:
        data = tf.data.Dataset.from_tensor_slices(tuple(data)).batch(batch_size)
    if isinstance(data, tf.data.Dataset):
        return data if batches is None else data.take(batches)
    raise ValueError(
        "Expected `validation_data` to be (images, labels) or a tf.data.Dataset of such batches. "
        f"Received {type(data).__name__}."
    )

"""Callbacks: the schedule of the penalty's weight, and a monitor of gradient norms."""

import math

import keras
import tensorflow as tf

from keras_flowreg.gradients import input_gradients
from keras_flowreg.ops.validation import as_images, expect_not_negative, expect_one_of
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow

SHAPES = ("linear", "cosine")


class PenaltyWarmup(keras.callbacks.Callback):
    """Raises the penalty's weight from a fraction of the regularizer's to all of it.

    A strong penalty from the first step can collapse training to a constant classifier. The weight is a
    variable of the model, so no step is traced again; it is saved with the model's weights, and depends on
    the epoch and batch alone, so that a training resumed by `BackupAndRestore` goes on where it was. It is
    set before each batch (with `steps_per_execution`, before each execution).

    Args:
      epochs: how long the weight rises, in epochs; may be fractional.
      start: the fraction of the weight to begin with, from 0 to 1.
      shape: `"linear"`, or `"cosine"` (half a period).

    Raises:
      ValueError: if an argument is out of its range, or at the start of `fit` if the model has no regularizer.
    """

    def __init__(self, epochs, start=0.0, shape="linear"):
        super().__init__()
        self.epochs = expect_not_negative("epochs", epochs)
        self.start = expect_not_negative("start", start)
        if self.start > 1:
            raise ValueError(f"Expected `start` to be a fraction from 0 to 1. Received {start!r}.")
        self.shape = expect_one_of("shape", shape, SHAPES)
        self._epoch = 0

    def weight_fraction(self, epochs):
        """The fraction of the weight after so many (whole or fractional) epochs."""
        progress = min(epochs / self.epochs, 1.0) if self.epochs else 1.0
        if self.shape == "cosine":
            progress = (1 - math.cos(progress * math.pi)) / 2
        return self.start + (1 - self.start) * progress

    def on_train_begin(self, logs=None):
        if getattr(self.model, "regularizer", None) is None:
            raise ValueError(
                "Expected a FlowRegularizedModel with a regularizer, whose weight PenaltyWarmup can set. "
                f"Received {self.model!r}."
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        # The number of batches is not known in the first epoch of some datasets: the weight then waits.
        batches = self.params.get("steps")
        epochs = self._epoch + (batch / batches if batches else 0)
        self.model.penalty_weight.assign(self.model.regularizer.weight * self.weight_fraction(epochs))


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
        self.dataset = _as_dataset(validation_data, batch_size)
        if batches is not None:
            self.dataset = self.dataset.take(batches)
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)
        self._norms = None

    def set_model(self, model):
        super().set_model(model)
        self._norms = None

    def on_epoch_end(self, epoch, logs=None):
        if self._norms is None:
            self._norms = tf.function(self._gradient_norms, reduce_retracing=True)
        batches = [self._norms(images, labels) for images, labels in self.dataset]
        if not batches:
            raise ValueError("Expected `validation_data` to hold at least one batch. Received none.")
        flow_norms, input_norms = (tf.concat(norms, axis=0) for norms in zip(*batches))
        if logs is not None:
            logs["val_flow_gradient_norm"] = float(tf.reduce_mean(flow_norms))
            logs["val_input_gradient_norm"] = float(tf.reduce_mean(input_norms))

    def _gradient_norms(self, images, labels):
        upstream = input_gradients(self.model, images, labels)
        _, pull_back = Flow(self.lattice).linearize_at_identity(as_images(images))
        return _norms(pull_back(upstream)), _norms(upstream)


def _norms(gradients):
    return tf.norm(tf.reshape(gradients, [tf.shape(gradients)[0], -1]), axis=1)


def _as_dataset(data, batch_size):
    if isinstance(data, tf.data.Dataset):
        return data
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return tf.data.Dataset.from_tensor_slices(tuple(data)).batch(batch_size)
    raise ValueError(
        "Expected `validation_data` to be (images, labels) or a tf.data.Dataset of such batches. "
        f"Received {type(data).__name__}."
    )

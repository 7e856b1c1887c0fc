"""Numbers of gradients and of robustness, on held-out images, in the logs."""

from typing import Any, Optional

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg.attacks import Attack
from keras_flowreg.attacks.base import expect_untargeted
from keras_flowreg.batches import Batches, Data
from keras_flowreg.gradients import input_gradients
from keras_flowreg.ops.losses import compiled_loss, ignored_class
from keras_flowreg.ops.validation import as_images, expect_one_of
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow
from keras_flowreg.types import KerasModel, Logs


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
        again after each epoch; see `batches.Batches`. Examples whose label the loss ignores do not count.
      batch_size: how many examples a batch of the arrays has.
      batches: how many batches to attack; `None` for all.

    Raises:
      TypeError: if `attack` is not an `Attack`.
      ValueError: if `validation_data` is not such data, empty, or without an end.
    """

    def __init__(self, attack: Attack, validation_data: Data, batch_size: int = 128, batches: Optional[int] = None):
        super().__init__()
        self.attack = expect_untargeted(attack)
        self._data = Batches(validation_data, "validation_data", batch_size=batch_size, batches=batches)

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        batches = _labelled(self._data, self.model)
        fooled = [self.attack.run(images, labels, model=self.model).success for images, labels in batches]
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
        again after each epoch; see `batches.Batches`. Examples whose label the loss ignores do not count.
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
        batches = [self._norms(images, labels) for images, labels in _labelled(self._data, self.model)]
        flow_norms, input_norms = (tf.concat(norms, axis=0) for norms in zip(*batches))
        if logs is not None:
            logs["val_flow_gradient_norm"] = float(tf.reduce_mean(flow_norms))
            logs["val_input_gradient_norm"] = float(tf.reduce_mean(input_norms))

    def _gradient_norms(self, images, labels):
        upstream = input_gradients(self.model, images, labels)
        _, pull_back = Flow(self.lattice).linearize_at_identity(as_images(images))
        return _norms(pull_back(upstream)), _norms(upstream)


def _labelled(data, model):
    """The batches, without the examples whose label the model's loss ignores."""
    ignored = ignored_class(compiled_loss(model))
    if ignored is None:
        yield from data
        return
    found = 0
    for images, labels in data:
        rows = np.flatnonzero(np.reshape(labels, [-1]) != ignored)
        found += len(rows)
        if len(rows):
            yield tf.gather(images, rows), tf.gather(labels, rows)
    if not found:
        raise ValueError(
            f"Expected labels that the loss does not ignore, in `validation_data`. Received {ignored} alone."
        )


def _norms(gradients):
    return tf.norm(tf.reshape(gradients, [tf.shape(gradients)[0], -1]), axis=1)

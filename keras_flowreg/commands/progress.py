"""One progress bar over all epochs of a training, with the time left."""

from typing import Any, Optional

import keras

from keras_flowreg.types import Logs

_SECONDS_BETWEEN_UPDATES = 0.5


class TrainingProgress(keras.callbacks.Callback):
    """Shows how many of the steps are done, how long the rest will take, and the last values of the logs.

    Where a training is resumed, the steps are those that are left. The number of batches in an epoch must be known.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._names: list[str] = []
        self._epochs_before: Optional[int] = None
        self._done = 0

    def on_epoch_begin(self, epoch: int, logs: Optional[Logs] = None) -> None:
        if self._epochs_before is None:
            self._epochs_before = epoch
        self._done = (epoch - self._epochs_before) * self.params["steps"]

    def on_train_batch_end(self, batch: int, logs: Optional[Logs] = None) -> None:
        if self._bar is None:
            self._start(logs or {})
        self._show(self._done + batch + 1, logs or {}, finalize=False)

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        self._show(self._done + self.params["steps"], logs or {}, finalize=epoch + 1 == self.params["epochs"])

    def _start(self, logs):
        """Makes the bar after the first step, which names the values: a bar must know which not to average."""
        steps = (self.params["epochs"] - self._epochs_before) * self.params["steps"]
        self._names = [*logs, *(f"val_{name}" for name in logs)]
        self._bar = keras.utils.Progbar(steps, interval=_SECONDS_BETWEEN_UPDATES, stateful_metrics=self._names)

    def _show(self, steps, logs, finalize):
        values = [(name, value) for name, value in logs.items() if name in self._names]
        self._bar.update(steps, values, finalize=finalize)

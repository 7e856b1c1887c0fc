"""What a study's training logs, epoch by epoch, and by what its checkpoint is chosen."""

import json
import os
import time

import keras

from keras_flowreg import files
from keras_flowreg.evaluation.plain import plain


class Score(keras.callbacks.Callback):
    """Logs by what a checkpoint is chosen, `val_score`: the mean of clean and robust accuracy, after the warm-up.

    The last epoch counts, however long the warm-up is.
    """

    def __init__(self, schedule):
        super().__init__()
        self.first = min(schedule.warmup * schedule.epochs, schedule.epochs - 1)

    def on_epoch_end(self, epoch, logs=None):
        score = (logs["val_accuracy"] + logs["val_robust_accuracy"]) / 2
        logs["val_score"] = score if epoch + 1 > self.first else 0.0


class History(keras.callbacks.Callback):
    """Writes what each epoch logged, and its seconds, as one line of JSON; an epoch that is repeated replaces it."""

    def __init__(self, path):
        super().__init__()
        self.path, self._start = path, None

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logged = {name: float(value) for name, value in (logs or {}).items()}
        logged["seconds"] = time.perf_counter() - self._start
        lines = [json.dumps(plain(line), allow_nan=False) for line in [*read_history(self.path)[:epoch], logged]]
        files.write_text(self.path, "\n".join(lines) + "\n")


def read_history(path):
    """What each epoch logged; nothing if there is no file."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]

"""The order of examples of a training that is resumed."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.ops.validation import expect_instance
from keras_flowreg.types import Logs


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
      ValueError: if it has no known end, or no batch.
    """

    def __init__(self, dataset: tf.data.Dataset):
        super().__init__()
        self._dataset = expect_instance("dataset", dataset, tf.data.Dataset)
        if dataset.cardinality() < 1:
            raise ValueError(
                "Expected `dataset` to know how many batches it has, at least one. Received one without a known end, or "
                "without batches."
            )

    def on_train_begin(self, logs: Optional[Logs] = None) -> None:
        # A step that loss scaling leaves out is not counted.
        epochs_done = round(int(compat.batches_seen(self.model.optimizer)) / len(self._dataset))
        for _ in range(epochs_done * compat.ITERATORS_PER_EPOCH):
            iter(self._dataset)

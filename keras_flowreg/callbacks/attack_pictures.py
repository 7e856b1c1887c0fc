"""What an attack does to a few images, in TensorBoard, as the training goes on."""

import os
from typing import Optional, Union

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg import pictures
from keras_flowreg.attacks import Attack
from keras_flowreg.attacks.base import expect_untargeted
from keras_flowreg.batches import Batches, Data
from keras_flowreg.ops.validation import expect_positive_integer
from keras_flowreg.types import Logs


class AttackPictures(keras.callbacks.Callback):
    """Draws what an attack does to a few images after each epoch, for TensorBoard.

    One image a row: the original, the flow as arrows, how far each pixel moves, the deformed image, and their difference, with
    the loss of both. The images are the same in every epoch. TensorBoard shows the picture as `attack`, beside the scalars of
    `keras.callbacks.TensorBoard(log_dir)`.

    ```python
    attack = fr.attacks.FlowPGD(epsilon=0.4, steps=3)
    pictures = fr.callbacks.AttackPictures(attack, (images, labels), log_dir="logs", examples=2)
    model.fit(images, labels, verbose=0, callbacks=[keras.callbacks.TensorBoard("logs"), pictures])
    ```

    Args:
      attack: an untargeted `Attack` that moves pixels.
      validation_data: two arrays `(images, labels)`, or batches of them in any form that `fit` takes; see
        `batches.Batches`.
      log_dir: the folder of TensorBoard's logs. The pictures go into its folder `attack`.
      examples: how many images to draw, from the first.
      every: how many epochs lie between two pictures.

    Raises:
      TypeError: if `attack` is not an `Attack`.
      ValueError: if `attack` is targeted, if `validation_data` is not such data or empty, or a number is not positive.
      ImportError: if Matplotlib is not installed.
    """

    def __init__(
        self,
        attack: Attack,
        validation_data: Data,
        log_dir: Union[str, os.PathLike],
        examples: int = 4,
        every: int = 1,
    ):
        super().__init__()
        self.attack = expect_untargeted(attack)
        self.every = expect_positive_integer("every", every)
        data = Batches(validation_data, "validation_data", examples=examples, read_once=True)
        self._images, self._labels = (np.concatenate(parts) for parts in zip(*data))
        pictures.expect_matplotlib()
        self._log_dir = os.path.join(os.fspath(log_dir), "attack")
        self._writer: Optional[tf.summary.SummaryWriter] = None

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        if epoch % self.every:
            return
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._log_dir)
        with self._writer.as_default():
            tf.summary.image("attack", self._draw()[np.newaxis], step=epoch)
        self._writer.flush()

    def _draw(self):
        """`[height, width, 3]`, of whole numbers from 0 to 255."""
        result = self.attack.run(self._images, self._labels, model=self.model)
        befores = zip(result.clean_success.numpy(), result.clean_loss.numpy())
        afters = zip(result.success.numpy(), result.loss.numpy())
        captions = [(_caption(*before), _caption(*after)) for before, after in zip(befores, afters)]
        figure = pictures.draw_gallery(
            self._images, result.flow.numpy(), result.images.numpy(), captions, value_range=self.attack.value_range
        )
        return pictures.rendered(figure)


def _caption(is_fooled, loss):
    return f"{'wrong' if is_fooled else 'right'}, loss {loss:.2g}"

"""Where a tensor of a model has its batch: attention by hand moves it to another axis, and windows are put into it.

Steps keep the batch on the first axis, and the windows of each image on the second. A `Layout` leads from there to the tensor
as the model has it, and back.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

_IMAGES = 7  # beside one: the axis that has as many times the size is that of the batch


class Layout(NamedTuple):
    """The axis on which a tensor has its batch, and how much of it belongs to one image.

    ```python
    from keras_flowreg.certification.layouts import Layout

    windows = tf.zeros([3 * 4, 8, 8, 2])  # four of each of three images
    print(Layout(rows=4).inner(windows).shape)  # (3, 4, 8, 8, 2)
    ```

    Attributes:
      axis: the axis.
      rows: how many rows along this axis belong to one image; those of one image come one after another.
    """

    axis: int = 0
    rows: int = 1

    def inner(self, tensor: tf.Tensor) -> tf.Tensor:
        """`[batch, ...]`, or `[batch, rows, ...]`, of the tensor as the model has it."""
        return self.split(_moved(tensor, self.axis, 0))

    def outer(self, tensor: tf.Tensor) -> tf.Tensor:
        """The tensor as the model has it."""
        return _moved(self.merged(tensor), 0, self.axis)

    def split(self, tensor: tf.Tensor) -> tf.Tensor:
        """The rows of each image on an axis of their own, from the first one, if there are several."""
        return tensor if self.rows == 1 else tf.reshape(tensor, [-1, self.rows, *tensor.shape[1:]])

    def merged(self, tensor: tf.Tensor) -> tf.Tensor:
        """The rows of all images on the first axis."""
        return tensor if self.rows == 1 else tf.reshape(tensor, [-1, *tensor.shape[2:]])


def layout_of_output(
    function: Callable[..., tf.Tensor], shapes: Sequence[Sequence[int]], layouts: Sequence[Layout]
) -> Layout:
    """Where a function's output has its batch: on the axis that grows with it. The usual layout, if there is not one.

    Args:
      function: of tensors as the model has them.
      shapes: of each, for one image.
      layouts: of each.
    """
    one, many = (_shape_for(images, function, shapes, layouts) for images in (1, _IMAGES))
    if len(one) != len(many):
        return Layout()
    grown = [axis for axis, (few, more) in enumerate(zip(one, many)) if few != more]
    if len(grown) != 1 or many[grown[0]] != _IMAGES * one[grown[0]]:
        return Layout()
    return Layout(grown[0], one[grown[0]])


def _shape_for(images, function, shapes, layouts):
    tensors = [
        tf.zeros([size * (images if axis == layout.axis else 1) for axis, size in enumerate(shape)])
        for shape, layout in zip(shapes, layouts)
    ]
    return function(*tensors).shape


def _moved(tensor, source, target):
    if source == target:
        return tensor
    order = [axis for axis in range(len(tensor.shape)) if axis != source]
    return tf.transpose(tensor, [*order[:target], source, *order[target:]])

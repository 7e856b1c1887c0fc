"""The signature of a function that is traced once, for batches of any size."""

import tensorflow as tf

from keras_flowreg.types import TensorLike


def spec_of_any_batch(tensor: TensorLike) -> tf.TensorSpec:
    """What a tensor is but for its first axis: for a number, all of it."""
    return tf.TensorSpec([None, *tensor.shape[1:]] if len(tensor.shape) else [], tensor.dtype)

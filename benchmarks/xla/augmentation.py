"""What `datasets.load` does to training images one by one, for a whole batch, since XLA does not compile that."""

import tensorflow as tf

from keras_flowreg.ops import random


def cropped_and_mirrored(images, seed, padding, mirrored):
    """Images cropped at random from themselves with zeros around, and mirrored at random.

    Args:
      images: `[batch, height, width, channels]`.
      seed: `[2]` integers.
      padding: pixels of zeros on each side.
      mirrored: whether each second image or so is mirrored.
    """
    batch, height, width, _ = images.shape
    draws = random.uniform([batch, 3], seed)
    first = tf.cast(draws[:, :2] * (2 * padding + 1), tf.int32)
    padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    images = tf.gather(padded, first[:, :1] + tf.range(height), axis=1, batch_dims=1)
    images = tf.gather(images, first[:, 1:] + tf.range(width), axis=2, batch_dims=1)
    is_mirrored = (draws[:, 2] < 0.5)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.where(is_mirrored, images[:, :, ::-1], images) if mirrored else images

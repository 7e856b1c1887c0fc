"""How far and how roughly a flow moves an image."""

from typing import NamedTuple

import tensorflow as tf


class DisplacementStatistics(NamedTuple):
    """Of each flow: `[batch]`, in pixels."""

    median: tf.Tensor  # length of a pixel's displacement
    largest: tf.Tensor  # length of a pixel's displacement
    roughness: tf.Tensor  # mean length of the difference between neighbouring pixels' displacements


def displacement_statistics(flow):
    """Measures flows.

    Args:
      flow: float `[batch, height, width, 2]`, `(dy, dx)` in pixels.

    Returns:
      `DisplacementStatistics`. A roughness of 0 is a translation of the whole image.
    """
    lengths = tf.sort(_flat(tf.norm(flow, axis=-1)), axis=1)
    count = tf.shape(lengths)[1]
    median = (lengths[:, (count - 1) // 2] + lengths[:, count // 2]) / 2
    pairs = tf.concat([_flat(tf.norm(difference, axis=-1)) for difference in _differences(flow)], axis=1)
    return DisplacementStatistics(median, lengths[:, -1], tf.reduce_mean(pairs, axis=1))


def flow_smoothness_loss(flow):
    """The sum over pixels and their four neighbours of the length of the difference of their displacements.

        L(f) = Σ_p Σ_{q ∈ N(p)} ‖f_p - f_q‖₂

    Args:
      flow: float `[batch, height, width, 2]`, in pixels.

    Returns:
      `[batch]`. Its derivative is zero, not NaN, where neighbours move alike.

    Reference: Xiao et al., "Spatially transformed adversarial examples", 2018. Each pair of neighbours is
    counted twice, as there.
    """
    return 2 * tf.add_n([tf.reduce_sum(_safe_length(d), axis=[1, 2]) for d in _differences(flow)])


def _differences(flow):
    """Between vertical and between horizontal neighbours."""
    return flow[:, 1:] - flow[:, :-1], flow[:, :, 1:] - flow[:, :, :-1]


def _safe_length(vectors):
    squares = tf.reduce_sum(tf.square(vectors), axis=-1)
    positive = squares > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, squares, tf.ones_like(squares))), tf.zeros_like(squares))


def _flat(tensor):
    return tf.reshape(tensor, [tf.shape(tensor)[0], -1])

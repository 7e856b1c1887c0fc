"""How far and how roughly a flow moves an image."""

from typing import NamedTuple

import tensorflow as tf

from keras_flowreg.ops.validation import expect_flow
from keras_flowreg.types import FlowField, PerExample


class DisplacementStatistics(NamedTuple):
    """How far and how roughly each flow moves its image, in pixels.

    ```python
    result = fr.attacks.RandomFlow(epsilon=0.4).run(images, labels, model=model)
    print(result.displacement.median, result.displacement.largest, result.displacement.roughness)
    ```
    """

    median: PerExample  # the length of the median pixel's displacement
    largest: PerExample  # the length of the longest displacement
    roughness: PerExample  # the mean length of the difference between neighbouring displacements


def displacement_statistics(flow: FlowField) -> DisplacementStatistics:
    """Measures how far and how roughly flows move their images.

    ```python
    flow = tf.random.normal([4, 8, 10, 2])
    print(fr.ops.displacement_statistics(flow).largest)
    ```

    Args:
      flow: float `[batch, height, width, 2]`, `(dy, dx)` in pixels.

    Returns:
      `DisplacementStatistics`. A roughness of 0 is a translation of the whole image.
    """
    flow = tf.convert_to_tensor(flow)
    expect_flow(flow)
    lengths = tf.sort(_flat(tf.norm(flow, axis=-1)), axis=1)
    count = tf.shape(lengths)[1]
    median = (lengths[:, (count - 1) // 2] + lengths[:, count // 2]) / 2
    pairs = tf.concat([_flat(tf.norm(difference, axis=-1)) for difference in _differences(flow)], axis=1)
    roughness = tf.math.divide_no_nan(tf.reduce_sum(pairs, axis=1), tf.cast(tf.shape(pairs)[1], pairs.dtype))
    return DisplacementStatistics(median, lengths[:, -1], roughness)


def flow_smoothness_loss(flow: FlowField) -> PerExample:
    """How rough each flow is: the total difference between neighbouring displacements.

        L(f) = Σ_p Σ_{q ∈ N(p)} ‖f_p - f_q‖₂

    over the pixels p and their four neighbours q.

    ```python
    translation = tf.ones([4, 8, 10, 2])
    print(fr.ops.flow_smoothness_loss(translation))  # zeros
    ```

    Args:
      flow: float `[batch, height, width, 2]`, in pixels.

    Returns:
      `[batch]`. Its derivative is zero, not NaN, where neighbours move alike.

    Reference: Xiao et al., "Spatially transformed adversarial examples", 2018. As there, each pair of neighbours counts
    twice.
    """
    flow = tf.convert_to_tensor(flow)
    expect_flow(flow)
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

"""Refutations: what an example can become, and the network gets wrong. No bound can prove such an example."""

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.bounds import Bounds

_STEPS = 30


def are_refuted(bounds: Bounds, forms: tf.Tensor) -> np.ndarray:
    """Whether some form of the logits is found that is not positive, by conditional gradient descent of the least one.

    What is tried is a mean of what the example can become. Bounds by lines are about all such means, too.

    Args:
      bounds: whose images and network are searched.
      forms: `[batch, forms, classes]`; those without coefficients are left out.

    Returns:
      bool `[batch]`.
    """
    logits, reach = bounds.network.logits, bounds.reach
    is_left_out = tf.reduce_all(forms == 0, axis=2)
    images, refuted = reach.box.center, np.zeros(len(forms), bool)
    for step in range(_STEPS + 1):
        with tf.GradientTape() as tape:
            tape.watch(images)
            values = tf.einsum("blc,bc->bl", forms, bounds.network.values(images)[logits])
            least = tf.reduce_min(tf.where(is_left_out, values.dtype.max, values), axis=1)
        if step:  # The center itself need not be such a mean.
            refuted |= np.array(least <= 0)
        images += 2 / (step + 2) * (reach.minimizer(tape.gradient(least, images)) - images)
    return refuted

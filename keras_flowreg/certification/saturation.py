"""A last sigmoid of several classes: what float32 leaves of a lead, behind it."""

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.network import Network
from keras_flowreg.certification.reach import Reach

_ROUNDING = 1e-6  # of a sigmoid, in parts of it
_LEAST_LOGIT = -80.0  # below it sigmoids are as good as zero to float32


def keep_their_order(
    network: Network, reachable: Reach, indices: tf.Tensor, margin: np.ndarray, classes: int
) -> np.ndarray:
    """For which examples the label's sigmoid is the greatest wherever its logit is, by a margin.

    A lead m of a logit z is one of 1 - σ(z - m) / σ(z) behind the sigmoid, in parts of it. That gets less with z, so that
    the greatest z decides.

    Args:
      network: whose last step is a sigmoid.
      reachable: what the images can become.
      indices: the labels' classes, int32 `[batch]`.
      margin: by how much the label's logit is above all others, `[batch]`.
      classes: how many there are.

    Returns:
      bool `[batch]`.
    """
    label = tf.one_hot(indices, classes)[:, tf.newaxis]
    bounds = Bounds(network, reachable)
    forms = tf.concat([label, -label], axis=1)
    least, negative_greatest = np.float64(tf.maximum(bounds.minimum(forms), bounds.minimum_by_intervals(forms))).T
    with np.errstate(over="ignore", invalid="ignore"):
        rest, lead = np.exp(negative_greatest), np.exp(-np.float64(margin))
        behind = rest * (1 - lead) / (lead + rest)
    return (least > _LEAST_LOGIT) & (behind > _ROUNDING)

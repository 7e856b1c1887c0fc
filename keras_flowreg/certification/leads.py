"""Leads: by how much the label's logit is above each other one. A class is safe while its leads are positive."""

from typing import Optional

import tensorflow as tf

from keras_flowreg.ops.labels import expect_labels, expect_probabilities, indices_of
from keras_flowreg.types import Labels, Predictions


def class_indices(labels: Labels, logits: Predictions, ignored: Optional[int] = None) -> tf.Tensor:
    """Labels as class indices, int32 `[batch]`; 0 for the index that a loss ignores.

    Raises:
      ValueError: if they are not labels of these logits, `[batch, classes]`, or `[batch, 1]` for two classes.
    """
    if logits.shape[1] == 1:
        if labels.shape.rank not in (None, 1) and labels.shape[1:] != [1]:
            raise ValueError(
                "Expected `labels` of the shape [batch] or [batch, 1], for a model of one logit. "
                f"Received shape {labels.shape}."
            )
        return tf.cast(tf.cast(tf.reshape(expect_probabilities(labels), [-1]), tf.float32) > 0.5, tf.int32)
    indices = tf.cast(indices_of(expect_labels(labels, logits, "either", ignored)), tf.int32)
    return indices if ignored is None else tf.where(indices == ignored, 0, indices)


def lead_forms(indices: tf.Tensor, classes: int) -> tf.Tensor:
    """The leads as linear forms of the logits, `[batch, leads, classes]`.

    Of several classes there is a lead over each, which is zero over the label itself. Of one logit, for two classes, the only
    lead is the logit, or its negative for the label 0.
    """
    if classes == 1:
        return end_forms(indices, 1)
    return tf.one_hot(indices, classes)[:, tf.newaxis] - tf.eye(classes)


def logits_of_leads(leads: tf.Tensor, indices: tf.Tensor) -> Predictions:
    """Logits `[batch, classes]` with these leads; the label's is zero, if there are several."""
    return logits_of_ends(leads, indices) if leads.shape[1] == 1 else -leads


def end_forms(indices: tf.Tensor, classes: int) -> tf.Tensor:
    """Each logit on its own, `[batch, classes, classes]`: the label's, and the negative of every other one."""
    return tf.linalg.diag(_signs(indices, classes))


def logits_of_ends(least: tf.Tensor, indices: tf.Tensor) -> Predictions:
    """The least that the label's logit can be, and the greatest of the others, of the least of `end_forms`."""
    return least * _signs(indices, least.shape[1])


def _signs(indices, classes):
    """1 for the label and -1 for other classes, `[batch, classes]`; of one logit, for two classes, 1 for the label 1."""
    if classes == 1:
        return tf.cast(2 * indices[:, tf.newaxis] - 1, tf.float32)
    return 2 * tf.one_hot(indices, classes) - 1

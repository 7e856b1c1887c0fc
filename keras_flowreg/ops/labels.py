"""What labels, class indices or one-hot, say of predictions."""

import tensorflow as tf

from keras_flowreg.types import Labels, PerExample, Predictions


def split_predictions(labels: Labels, predictions: Predictions) -> tuple[PerExample, Predictions]:
    """Each example's prediction for its label, and those for the other classes.

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
      predictions: `[batch, classes]`.

    Returns:
      `(label, others)`: `[batch]`, and `[batch, classes]` with the least number of the dtype in the label's place.

    Raises:
      ValueError: if there are fewer than two classes.
    """
    _expect_classes(predictions)
    is_label = _one_hot(tf.convert_to_tensor(labels), predictions)
    label = tf.reduce_sum(tf.where(is_label, predictions, tf.zeros_like(predictions)), axis=1)
    return label, tf.where(is_label, tf.fill(tf.shape(predictions), predictions.dtype.min), predictions)


def is_correct(labels: Labels, predictions: Predictions) -> tf.Tensor:
    """Whether the largest prediction is the label's: bool `[batch]`.

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
      predictions: `[batch, classes]`, logits or probabilities.

    Raises:
      ValueError: if there are fewer than two classes.
    """
    _expect_classes(predictions)
    return tf.argmax(predictions, axis=1) == _classes(labels)


def are_one_hot(labels: Labels) -> bool:
    """Whether labels are one-hot, `[batch, classes]`, and not class indices, `[batch]` or `[batch, 1]`."""
    return labels.shape.rank == 2 and labels.shape[1] != 1


def _expect_classes(predictions):
    if predictions.shape.rank != 2 or (predictions.shape[1] or 2) < 2:
        raise ValueError(
            "Expected predictions of the shape [batch, classes], for at least two classes. "
            f"Received shape {predictions.shape}."
        )


def _classes(labels):
    """Class indices, int64 `[batch]`, of labels that may be one-hot."""
    return tf.argmax(labels, axis=1) if are_one_hot(labels) else tf.cast(tf.reshape(labels, [-1]), tf.int64)


def _one_hot(labels, predictions):
    """bool `[batch, classes]`."""
    return tf.one_hot(_classes(labels), tf.shape(predictions)[1], True, False, dtype=tf.bool)

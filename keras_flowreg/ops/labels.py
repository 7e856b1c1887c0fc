"""What labels, class indices or one-hot, say of predictions."""

from typing import Literal, Optional

import numpy as np
import tensorflow as tf

from keras_flowreg.ops.requirements import are_collected, require
from keras_flowreg.ops.validation import as_labels
from keras_flowreg.types import Labels, PerExample, Predictions

# What a loss takes for labels: class indices, one-hot, either of them, a number for each prediction, or its own.
LabelKind = Literal["indices", "one_hot", "either", "each", "any"]
_SMALLEST_PROBABILITY = 1e-30  # whose logarithm is finite, in float32 too
_SMALL = 1e-3  # by which probabilities may miss 1
_SMALL_IN_HALF = 1e-2  # the same, of a softmax in bfloat16


def split_predictions(labels: Labels, predictions: Predictions) -> tuple[PerExample, Predictions]:
    """Each example's prediction for its label, and those for the other classes.

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
      predictions: `[batch, classes]`.

    Returns:
      `(label, others)`: `[batch]`, and `[batch, classes]` with the least number of the dtype in the label's place.

    Raises:
      ValueError: if there are fewer than two classes, or the labels are not those of such predictions.
    """
    expect_classes(predictions)
    labels = tf.convert_to_tensor(labels)
    _expect_width(labels, predictions)
    if tf.executing_eagerly():
        expect_labels(labels, predictions, "either")
    is_label = _one_hot(labels, predictions)
    label = tf.reduce_sum(tf.where(is_label, predictions, tf.zeros_like(predictions)), axis=1)
    return label, tf.where(is_label, tf.fill(tf.shape(predictions), predictions.dtype.min), predictions)


def logits_of(probabilities: Predictions) -> Predictions:
    """Logits whose softmax is the probabilities: their logarithms, kept finite."""
    return tf.math.log(tf.maximum(probabilities, _SMALLEST_PROBABILITY))


def look_like_probabilities(predictions: np.ndarray) -> bool:
    """Whether all of some predictions, `[batch, classes]`, could be probabilities."""
    return bool(np.all(predictions >= 0) and np.allclose(predictions.sum(axis=1), 1, atol=_SMALL_IN_HALF))


def other_class(labels: Labels, predictions: Predictions, rank: int) -> Labels:
    """The class of each example that comes next to its label: the likeliest other one, the one after it ...

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
      predictions: `[batch, classes]`, logits or probabilities.
      rank: 0 for the likeliest. Beyond the last class it begins anew.

    Returns:
      Labels of the form of `labels`.
    """
    _, others = split_predictions(labels, predictions)
    classes = tf.shape(predictions)[1]
    found = tf.argsort(others, axis=1, direction="DESCENDING", stable=True)[:, rank % (classes - 1)]
    if are_one_hot(labels):
        return tf.cast(tf.one_hot(found, classes), labels.dtype)
    return tf.reshape(tf.cast(found, labels.dtype), tf.shape(labels))


def is_correct(labels: Labels, predictions: Predictions) -> tf.Tensor:
    """Whether the largest prediction is the label's: bool `[batch]`.

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
      predictions: `[batch, classes]`, logits or probabilities.

    Raises:
      ValueError: if there are fewer than two classes.
    """
    expect_classes(predictions)
    return tf.argmax(predictions, axis=1) == indices_of(labels)


def are_one_hot(labels: Labels) -> bool:
    """Whether labels are one-hot, `[batch, classes]`, and not class indices, `[batch]` or `[batch, 1]`."""
    return labels.shape.rank == 2 and labels.shape[1] != 1


def indices_of(labels: Labels) -> tf.Tensor:
    """Class indices, int64 `[batch]`, of labels that may be one-hot."""
    return tf.argmax(labels, axis=1) if are_one_hot(labels) else tf.cast(tf.reshape(labels, [-1]), tf.int64)


def expect_labels(
    labels: Labels, predictions: Predictions, kind: LabelKind, ignored: Optional[int] = None
) -> tf.Tensor:
    """Checks that labels say of each prediction what it should have been; returns them.

    In a graph, what depends on values is checked by an operation, which XLA drops. Predictions that are not `[batch,
    classes]`, for at least two classes, are left to the loss.

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot or other probabilities `[batch, classes]`.
      predictions: `[batch, classes]`; their shape is enough.
      kind: what the loss takes.
      ignored: the index that the loss takes for no class.

    Raises:
      TypeError: if labels are not numbers.
      ValueError: if they have another shape than the loss takes, if an index has no prediction or is not a whole number,
        or if probabilities do not add up to one (in a graph: InvalidArgumentError).
    """
    labels = as_labels(labels)
    classes = (predictions.shape[1] or 0) if predictions.shape.rank == 2 else 0
    if labels.shape.rank is None or classes < 2:
        return labels
    if kind == "any" and not (labels.dtype.is_integer and _is_shape_of(labels, predictions, classes, "indices")):
        return labels
    if not _is_shape_of(labels, predictions, classes, kind):
        shapes = {"indices": "[batch] or [batch, 1]", "one_hot": f"[batch, {classes}]", "each": f"[batch, {classes}]"}
        is_of_another = _is_shape_of(labels, predictions, classes, "either")
        advice = ": give a loss for such labels, or compile the model with one" if is_of_another else ""
        raise ValueError(
            f"Expected `labels` of the shape {shapes.get(kind, f'[batch] or [batch, {classes}]')}, for this loss and "
            f"predictions of the shape {predictions.shape}. Received shape {labels.shape}{advice}."
        )
    if kind == "each":
        return labels
    if are_one_hot(labels):
        probabilities = tf.cast(labels, tf.float32)
        is_one = tf.abs(tf.reduce_sum(probabilities, axis=1) - 1) <= _SMALL
        is_one &= tf.reduce_all((probabilities >= 0) & (probabilities <= 1 + _SMALL), axis=1)
        expected = "Expected the probabilities of each one-hot label to be from 0 to 1, and to add up to one."
        return _checked(labels, is_one, expected, probabilities)
    whole = tf.cast(labels, tf.int64)
    is_index = (whole >= 0) & (whole < classes)
    if ignored is not None:
        is_index |= whole == ignored
    if labels.dtype.is_floating:
        is_index &= labels == tf.cast(whole, labels.dtype)
    expected = f"Expected labels from 0 to {classes - 1}, whole numbers, for {classes} predictions."
    return _checked(labels, is_index, expected, labels)


def expect_probabilities(labels: Labels) -> tf.Tensor:
    """Checks that the labels of two classes are from 0 to 1; returns them. See `expect_labels`."""
    labels = as_labels(labels)
    values = tf.cast(labels, tf.float32)
    return _checked(labels, (values >= 0) & (values <= 1), "Expected labels from 0 to 1.", values)


def expect_certain(labels: Labels, classes: int) -> Labels:
    """Checks that labels are of one class each, and not shared by several; returns them. See `expect_labels`.

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`; of one prediction for two classes 0 or 1.
      classes: the number of predictions.
    """
    values = tf.cast(labels, tf.float32)
    if are_one_hot(labels):
        is_one = (tf.reduce_max(values, axis=1) == 1) & (tf.reduce_sum(tf.abs(values), axis=1) == 1)
    elif classes == 1:
        is_one = (values == 0) | (values == 1)
    else:
        return labels
    return _checked(labels, is_one, "Expected labels of one class each: 1 for it, and 0 for every other.", values)


def _is_shape_of(labels, predictions, classes, kind):
    sizes = labels.shape[:1].concatenate(predictions.shape[:1])
    is_batch = labels.shape.rank > 0 and (None in sizes or sizes[0] == sizes[1])
    if not is_batch or labels.shape.rank > 2:
        return False
    if are_one_hot(labels):
        return kind != "indices" and labels.shape[1] in (None, classes)
    return kind not in ("one_hot", "each")


def _checked(labels, is_right, expected, values):
    """The labels, after a check of every one."""
    is_right = tf.reduce_all(is_right)
    waits = require(is_right, expected, "Received values:", tf.cast(values, tf.float32))
    if are_collected():  # Whatever takes them goes on, and TensorFlow's losses stop at a wrong label.
        return tf.where(is_right, labels, tf.zeros_like(labels))
    with tf.control_dependencies(waits):
        return tf.identity(labels) if waits else labels


def expect_classes(predictions: Predictions) -> None:
    """Checks the shape of predictions.

    Raises:
      ValueError: if they are not `[batch, classes]`, for at least two classes.
    """
    if predictions.shape.rank != 2 or (predictions.shape[1] or 2) < 2:
        raise ValueError(
            "Expected predictions of the shape [batch, classes], for at least two classes. "
            f"Received shape {predictions.shape}: `two_class_classifier` makes such a model of a binary one."
        )


def _expect_width(labels, predictions):
    """Checks that one-hot labels have a column for each class, and that there is one label for each prediction."""
    if not labels.shape[:1].is_compatible_with(predictions.shape[:1]) or (
        are_one_hot(labels) and not labels.shape.is_compatible_with(predictions.shape)
    ):
        raise ValueError(
            f"Expected `labels` of the shape [batch] or {predictions.shape}. Received shape {labels.shape}."
        )


def _one_hot(labels, predictions):
    """bool `[batch, classes]`."""
    return tf.one_hot(indices_of(labels), tf.shape(predictions)[1], True, False, dtype=tf.bool)

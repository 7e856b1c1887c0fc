"""The loss of each example, whatever Keras loss was compiled."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_flowreg")
class MarginLoss(keras.losses.Loss):
    """By how much the best other class beats the label: max_{k ≠ label} z_k - z_label.

    Positive where an example is misclassified, and only there. `z` is what the model gives: logits, or
    probabilities, where the margin is between probabilities. Labels are class indices or one-hot.

    Reference: Carlini and Wagner, "Towards evaluating the robustness of neural networks", 2017.
    """

    def __init__(self, name="margin", **options):
        super().__init__(name=name, **options)

    def call(self, y_true, y_pred):
        label, others = split_predictions(y_true, y_pred)
        return tf.reduce_max(others, axis=1) - label


def split_predictions(labels, predictions):
    """Each example's prediction for its label, and those for the other classes.

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
      predictions: `[batch, classes]`.

    Returns:
      `(label, others)`: `[batch]`, and `[batch, classes]` with the least number of the dtype at the label.
    """
    is_label = _one_hot(tf.convert_to_tensor(labels), predictions)
    label = tf.reduce_sum(tf.where(is_label, predictions, tf.zeros_like(predictions)), axis=1)
    return label, tf.where(is_label, tf.fill(tf.shape(predictions), predictions.dtype.min), predictions)


def resolve_loss(loss, model):
    """Returns the loss to differentiate: `loss`, or where it is `None` the one `model` was compiled with.

    Args:
      loss: a Keras loss: instance, function or name; `"margin"`; or `None`.
      model: a Keras model.

    Returns:
      A `keras.losses.Loss` or a function of `(labels, predictions)`.

    Raises:
      ValueError: if there is no loss, or one for each of several outputs.
    """
    loss = getattr(model, "loss", None) if loss is None else loss
    if isinstance(loss, (list, tuple, dict)):
        losses = tf.nest.flatten(loss)
        if len(losses) > 1:
            raise ValueError(f"Expected one loss, for one output. Received {len(losses)}: {loss}.")
        loss = losses[0] if losses else None
    if loss is None:
        raise ValueError("Expected a loss: pass `loss=`, or a model that was compiled with one. Received None.")
    return MarginLoss() if loss == "margin" else keras.losses.get(loss)


def per_example_loss(loss, labels, predictions):
    """Evaluates a Keras loss for each example, without its reduction.

    Args:
      loss: a `keras.losses.Loss` (its reduction is not used) or a function of `(labels, predictions)`.
      labels: `[batch]`, `[batch, 1]` or as the loss takes them.
      predictions: `[batch, ...]`.

    Returns:
      `[batch]` `Tensor`, float32 or wider: predictions in half precision are widened first.

    Raises:
      ValueError: if the loss does not give at least one value for each example.
    """
    labels = tf.convert_to_tensor(labels)
    if predictions.dtype in (tf.float16, tf.bfloat16):
        predictions = tf.cast(predictions, tf.float32)
    if labels.shape.rank == 1 and predictions.shape.rank == 2:
        labels = labels[:, tf.newaxis]
    unreduced = loss.call if isinstance(loss, keras.losses.Loss) else loss
    values = tf.convert_to_tensor(unreduced(labels, predictions))
    if values.shape.rank == 0:
        raise ValueError(
            "Expected a loss that returns one value for each example (a function without a reduction, "
            f"or a keras.losses.Loss). Received a scalar from {loss}."
        )
    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)


def is_correct(labels, predictions):
    """Whether the largest prediction is the label's: bool `[batch]`.

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
      predictions: `[batch, classes]`, logits or probabilities.

    Raises:
      ValueError: if there are fewer than two classes.
    """
    if predictions.shape.rank != 2 or (predictions.shape[1] or 2) < 2:
        raise ValueError(
            "Expected predictions of the shape [batch, classes], for at least two classes. "
            f"Received shape {predictions.shape}."
        )
    return tf.argmax(predictions, axis=1) == _classes(labels)


def name_of(loss):
    """What a loss is called: its name, that of its function, or that of its class."""
    return getattr(loss, "name", None) or getattr(loss, "__name__", None) or type(loss).__name__


def expect_labels_in_range(labels, predictions, loss):
    """Returns `labels`, with a run-time check of class indices against the number of predictions.

    Only the labels of a sparse or a margin loss are class indices; others are returned as they are.
    """
    takes_indices = "sparse" in name_of(loss).lower() or (isinstance(loss, MarginLoss) and not _are_one_hot(labels))
    if not takes_indices or predictions.shape.rank is None:
        return labels
    classes = predictions.shape[-1]
    message = f"Expected labels from 0 to {classes - 1}, for {classes} predictions. Received a label outside."
    indices = tf.cast(labels, tf.int64)
    in_range = tf.reduce_all((indices >= 0) & (indices < classes))
    with tf.control_dependencies([tf.debugging.Assert(in_range, [message, indices], summarize=8)]):
        return tf.identity(labels)


def _are_one_hot(labels):
    return labels.shape.rank == 2 and labels.shape[1] != 1


def _classes(labels):
    """Class indices, int64 `[batch]`, of labels that may be one-hot."""
    return tf.argmax(labels, axis=1) if _are_one_hot(labels) else tf.cast(tf.reshape(labels, [-1]), tf.int64)


def _one_hot(labels, predictions):
    """bool `[batch, classes]`."""
    return tf.one_hot(_classes(labels), tf.shape(predictions)[1], True, False, dtype=tf.bool)

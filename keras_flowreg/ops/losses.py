"""The loss of each example, whatever Keras loss was compiled."""

import keras
import tensorflow as tf

from keras_flowreg.ops.validation import expect_fraction

NAMED_LOSSES = ("margin", "log_odds")
_SMALLEST_PROBABILITY = 1e-30  # whose logarithm is finite, in float32 too


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


@keras.saving.register_keras_serializable(package="keras_flowreg")
class LogOddsLoss(keras.losses.Loss):
    """The log of the odds against the label: log((1 - p) / p), where p is the label's probability.

    Of logits z it is a smooth margin, log Σ_{k ≠ label} exp(z_k) - z_label: positive where the label has less than
    half of the probability. The cross-entropy is -log p = softplus(log-odds), so

        ∂cross-entropy = (1 - p) · ∂log-odds

    The cross-entropy's gradient vanishes as a model grows sure of the label, however fast its logits change; that of
    the log-odds does not. Labels are class indices or one-hot.

    Args:
      from_logits: whether the predictions are logits; else probabilities, as in Keras.
    """

    def __init__(self, from_logits=False, name="log_odds", **options):
        super().__init__(name=name, **options)
        self.from_logits = bool(from_logits)

    def call(self, y_true, y_pred):
        if not self.from_logits:
            y_pred = tf.math.log(tf.maximum(y_pred, _SMALLEST_PROBABILITY))
        label, others = split_predictions(y_true, y_pred)
        return tf.reduce_logsumexp(others, axis=1) - label

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


# One object each: what is compiled for a loss is found again by it.
_MARGIN = MarginLoss()
_LOG_ODDS = {logits: LogOddsLoss(logits) for logits in (False, True)}


@keras.saving.register_keras_serializable(package="keras_flowreg")
class SmoothedSparseCategoricalCrossentropy(keras.losses.Loss):
    """The cross-entropy of class indices, with label smoothing, which Keras has for one-hot labels only.

    ```python
    loss = fr.ops.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True)
    model.compile("sgd", loss)
    ```

    Args:
      label_smoothing: the part of each label's probability that all classes share, from 0 to 1.
      from_logits: whether the predictions are logits. Otherwise they are probabilities.
    """

    def __init__(
        self,
        label_smoothing: float,
        from_logits: bool = False,
        name: str = "smoothed_sparse_categorical_crossentropy",
        **options,
    ):
        super().__init__(name=name, **options)
        self.label_smoothing = expect_fraction("label_smoothing", label_smoothing)
        self.from_logits = bool(from_logits)

    def call(self, y_true, y_pred):
        one_hot = tf.one_hot(tf.cast(tf.reshape(y_true, [-1]), tf.int32), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=self.from_logits, label_smoothing=self.label_smoothing
        )

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "from_logits": self.from_logits}


def split_predictions(labels, predictions):
    """Each example's prediction for its label, and those for the other classes.

    Args:
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
      predictions: `[batch, classes]`.

    Returns:
      `(label, others)`: `[batch]`, and `[batch, classes]` with the least number of the dtype at the label.

    Raises:
      ValueError: if there are fewer than two classes.
    """
    _expect_classes(predictions)
    is_label = _one_hot(tf.convert_to_tensor(labels), predictions)
    label = tf.reduce_sum(tf.where(is_label, predictions, tf.zeros_like(predictions)), axis=1)
    return label, tf.where(is_label, tf.fill(tf.shape(predictions), predictions.dtype.min), predictions)


def compiled_loss(model):
    """Returns the loss that a Keras model is compiled with now, or `None`.

    Raises:
      ValueError: if it is compiled with a loss for each of several outputs.
    """
    losses = [loss for loss in tf.nest.flatten(getattr(model, "loss", None)) if loss is not None]
    if len(losses) > 1:
        raise ValueError(f"Expected one loss, for one output. Received {len(losses)}: {model.loss}.")
    return keras.losses.get(losses[0]) if losses else None


def resolve_loss(loss, default=None):
    """Returns the loss to differentiate, as an object or a function.

    Args:
      loss: a Keras loss (instance, function or name), `"margin"`, `"log_odds"` or `None`.
      default: the loss that `None` stands for, as `compiled_loss` gives it. It also says whether `"log_odds"` gets
        logits or probabilities.

    Returns:
      A `keras.losses.Loss` or a function of `(labels, predictions)`. Equal names give the same object.

    Raises:
      ValueError: if `loss` is unknown, or there is none, or nothing says what `"log_odds"` gets.
    """
    if loss == "margin":
        return _MARGIN
    if loss == "log_odds":
        return log_odds_of(default)
    loss = default if loss is None else loss
    if loss is None:
        raise ValueError(
            "Expected a loss: pass `loss=`, or a model that is compiled with one. Received no loss, and a model that is "
            "not compiled."
        )
    return keras.losses.get(loss)


def expect_loss(loss):
    """Checks that a loss is known by its name, or is an object; returns it as it is."""
    if loss is None or loss in NAMED_LOSSES:
        return loss
    if not (isinstance(loss, str) or callable(loss)):
        raise ValueError(f"Expected `loss` to be a Keras loss, or one of {NAMED_LOSSES}. Received {loss!r}.")
    try:
        keras.losses.get(loss)
    except (ValueError, TypeError) as error:
        raise ValueError(f"Expected `loss` to be a Keras loss, or one of {NAMED_LOSSES}. Received {loss!r}.") from error
    return loss


def deserialize_loss(config):
    """The `loss` of a configuration, from what `keras.saving.serialize_keras_object` made of it."""
    return config if config is None or config in NAMED_LOSSES else keras.losses.get(config)


def takes_logits(loss):
    """Whether a loss takes logits: a bool, or `None` for a loss that does not say."""
    config = loss.get_config() if hasattr(loss, "get_config") else {}
    if "from_logits" in config:
        return bool(config["from_logits"])
    # Keras's own functions take probabilities unless they are told otherwise.
    return False if name_of(loss).endswith("crossentropy") else None


def log_odds_of(loss):
    """Returns the `LogOddsLoss` of the predictions that a cross-entropy takes: logits or probabilities.

    Raises:
      ValueError: if there is no loss, or it does not say which it takes.
    """
    if loss is None:
        raise ValueError(
            "Expected a model that is compiled with a cross-entropy, whose `from_logits` says what 'log_odds' are taken "
            "of. Received a model that is not compiled: compile it, or give LogOddsLoss(from_logits=...) instead."
        )
    logits = takes_logits(loss)
    if logits is None:
        raise ValueError(
            "Expected a cross-entropy, whose `from_logits` says what 'log_odds' are taken of. "
            f"Received {name_of(loss)}: give LogOddsLoss(from_logits=...) instead."
        )
    return _LOG_ODDS[logits]


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
    _expect_classes(predictions)
    return tf.argmax(predictions, axis=1) == _classes(labels)


def name_of(loss):
    """What a loss is called: its name, that of its function, or that of its class."""
    return getattr(loss, "name", None) or getattr(loss, "__name__", None) or type(loss).__name__


def expect_labels_in_range(labels, predictions, loss):
    """Checks class indices against the number of predictions; returns the labels.

    Only the labels of a sparse loss, a margin or log-odds are class indices. Others are returned as they are. In a
    graph the check is an operation, which XLA drops.

    Raises:
      ValueError: if a label has no prediction (in a graph: InvalidArgumentError).
    """
    takes_both = isinstance(loss, (MarginLoss, LogOddsLoss))
    takes_indices = "sparse" in name_of(loss).lower() or (takes_both and not _are_one_hot(labels))
    if not takes_indices or predictions.shape.rank is None:
        return labels
    classes = predictions.shape[-1]
    message = f"Expected labels from 0 to {classes - 1}, for {classes} predictions. Received a label outside."
    indices = tf.cast(labels, tf.int64)
    in_range = tf.reduce_all((indices >= 0) & (indices < classes))
    if tf.executing_eagerly():
        if not in_range:
            raise ValueError(f"{message[:-1]}: {tf.reduce_min(indices)} to {tf.reduce_max(indices)}.")
        return labels
    with tf.control_dependencies([tf.debugging.Assert(in_range, [message, indices], summarize=8)]):
        return tf.identity(labels)


def _expect_classes(predictions):
    if predictions.shape.rank != 2 or (predictions.shape[1] or 2) < 2:
        raise ValueError(
            "Expected predictions of the shape [batch, classes], for at least two classes. "
            f"Received shape {predictions.shape}."
        )


def _are_one_hot(labels):
    return labels.shape.rank == 2 and labels.shape[1] != 1


def _classes(labels):
    """Class indices, int64 `[batch]`, of labels that may be one-hot."""
    return tf.argmax(labels, axis=1) if _are_one_hot(labels) else tf.cast(tf.reshape(labels, [-1]), tf.int64)


def _one_hot(labels, predictions):
    """bool `[batch, classes]`."""
    return tf.one_hot(_classes(labels), tf.shape(predictions)[1], True, False, dtype=tf.bool)

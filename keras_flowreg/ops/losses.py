"""Losses: those of this library, any that Keras knows, and the loss of each example."""

from typing import Any, Optional

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.ops.labels import LabelKind, expect_labels, expect_probabilities, logits_of, split_predictions
from keras_flowreg.ops.validation import expect_boolean, expect_fraction, expect_same_batch
from keras_flowreg.types import Config, KerasModel, Labels, Loss, LossFunction, PerExample, Predictions

NAMED_LOSSES = ("margin", "log_odds")
# Keras's losses of one probability distribution for each example.
_OF_ONE_HOT = {"categoricalcrossentropy", "categoricalfocalcrossentropy", "kldivergence", "kullbackleiblerdivergence"}
_of_classes: dict[type, LossFunction] = {}


@keras.saving.register_keras_serializable(package="keras_flowreg")
class MarginLoss(keras.losses.Loss):
    """By how much the best other class beats the label: max_{k ≠ label} z_k - z_label.

    It is positive where an example is misclassified, and only there. The z are what the model gives, logits or
    probabilities. Labels are class indices or one-hot.

    ```python
    attack = fr.attacks.FlowPGD(epsilon=0.4, steps=5, loss="margin")
    adversarial_images = attack(images, labels, model=model)
    margins = fr.ops.per_example_loss(fr.ops.MarginLoss(), labels, model(adversarial_images))
    ```

    Args:
      name: the name of the loss.
      **options: the other options of `keras.losses.Loss`.

    Reference: Carlini and Wagner, "Towards evaluating the robustness of neural networks", 2017.
    """

    def __init__(self, name: str = "margin", **options: Any):
        super().__init__(name=name, **options)

    def call(self, y_true: Labels, y_pred: Predictions) -> PerExample:
        label, others = split_predictions(y_true, y_pred)
        return tf.reduce_max(others, axis=1) - label


@keras.saving.register_keras_serializable(package="keras_flowreg")
class LogOddsLoss(keras.losses.Loss):
    """The log of the odds against the label: log((1 - p) / p), where p is the label's probability.

    For logits z it is a smooth margin, log Σ_{k ≠ label} exp(z_k) - z_label. It is positive where the label has less than
    half of the probability. The cross-entropy is -log p = softplus(log-odds), and so

        ∂cross-entropy = (1 - p) · ∂log-odds

    The cross-entropy's gradient vanishes as a model grows sure of the label, however fast its logits change. The gradient
    of the log-odds does not. Labels are class indices or one-hot.

    ```python
    loss = fr.ops.LogOddsLoss(from_logits=True)
    print(fr.ops.per_example_loss(loss, labels, model(images)))
    ```

    Args:
      from_logits: whether the predictions are logits. Otherwise they are probabilities.
      name: the name of the loss.
      **options: the other options of `keras.losses.Loss`.
    """

    def __init__(self, from_logits: bool = False, name: str = "log_odds", **options: Any):
        super().__init__(name=name, **options)
        self.from_logits = expect_boolean("from_logits", from_logits)

    def call(self, y_true: Labels, y_pred: Predictions) -> PerExample:
        if not self.from_logits:
            y_pred = logits_of(y_pred)
        label, others = split_predictions(y_true, y_pred)
        return tf.reduce_logsumexp(others, axis=1) - label

    def get_config(self) -> Config:
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
      name: the name of the loss.
      **options: the other options of `keras.losses.Loss`.

    Raises:
      ValueError: if `label_smoothing` is not from 0 to 1.
    """

    def __init__(
        self,
        label_smoothing: float,
        from_logits: bool = False,
        name: str = "smoothed_sparse_categorical_crossentropy",
        **options: Any,
    ):
        super().__init__(name=name, **options)
        self.label_smoothing = expect_fraction("label_smoothing", label_smoothing)
        self.from_logits = expect_boolean("from_logits", from_logits)

    def call(self, y_true: Labels, y_pred: Predictions) -> PerExample:
        one_hot = tf.one_hot(tf.cast(tf.reshape(y_true, [-1]), tf.int32), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=self.from_logits, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> Config:
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "from_logits": self.from_logits}


def compiled_loss(model: KerasModel) -> Optional[LossFunction]:
    """The loss that a Keras model is compiled with now, or `None`.

    Raises:
      ValueError: if it is compiled with a loss for each of several outputs.
    """
    given = getattr(model, "loss", None)
    is_config = isinstance(given, dict) and "class_name" in given
    losses = [loss for loss in ([given] if is_config else tf.nest.flatten(given)) if loss is not None]
    if len(losses) > 1:
        raise ValueError(f"Expected one loss, for one output. Received {len(losses)}: {model.loss}.")
    return _loss_of(losses[0]) if losses else None


def resolve_loss(loss: Optional[Loss], default: Optional[LossFunction] = None) -> LossFunction:
    """The loss to differentiate, as an object or a function.

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
    return _loss_of(loss)


def _loss_of(loss):
    found = keras.losses.get(loss)
    is_new = isinstance(loss, str) and isinstance(found, keras.losses.Loss)  # of the name of a class, another each time
    return _of_classes.setdefault(type(found), found) if is_new else found


def expect_loss(loss: Optional[Loss]) -> Optional[Loss]:
    """Checks that a loss is an object, or a name that is known; returns it as it is."""
    if loss is None or loss in NAMED_LOSSES:
        return loss
    if not (isinstance(loss, str) or callable(loss)):
        raise ValueError(f"Expected `loss` to be a Keras loss, or one of {NAMED_LOSSES}. Received {loss!r}.")
    try:
        keras.losses.get(loss)
    except (ValueError, TypeError) as error:
        raise ValueError(f"Expected `loss` to be a Keras loss, or one of {NAMED_LOSSES}. Received {loss!r}.") from error
    return loss


def deserialize_loss(config: Any) -> Optional[Loss]:
    """The loss of a configuration, from what `keras.saving.serialize_keras_object` made of it."""
    return config if config is None or isinstance(config, str) else keras.losses.get(config)


def takes_logits(loss: LossFunction) -> Optional[bool]:
    """Whether a loss takes logits, or `None` for a loss that does not say."""
    config = loss.get_config() if hasattr(loss, "get_config") else {}
    if "from_logits" in config:
        return bool(config["from_logits"])
    # Keras's own functions take probabilities unless they are told otherwise.
    is_own = getattr(_own_of(loss), "__module__", "").startswith("keras.")
    return False if is_own and name_of(loss).endswith("crossentropy") else None


def log_odds_of(loss: Optional[LossFunction]) -> LogOddsLoss:
    """The `LogOddsLoss` of the predictions that a cross-entropy takes: logits or probabilities.

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


def per_example_loss(loss: LossFunction, labels: Labels, predictions: Predictions) -> PerExample:
    """Evaluates a Keras loss for each example, without its reduction.

    ```python
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    print(fr.ops.per_example_loss(loss, labels, model(images)))  # [batch]
    ```

    Args:
      loss: a `keras.losses.Loss`, whose reduction is not used, or a function of `(labels, predictions)`.
      labels: `[batch]`, `[batch, 1]`, or as the loss takes them.
      predictions: `[batch, ...]`.

    Returns:
      `[batch]`, float32 or wider. Predictions in half precision are widened first.

    Raises:
      ValueError: if the loss does not give at least one value for each example.
    """
    labels, predictions = tf.convert_to_tensor(labels), tf.convert_to_tensor(predictions)
    expect_same_batch(predictions, labels, of="prediction")
    if predictions.dtype in (tf.float16, tf.bfloat16):
        predictions = tf.cast(predictions, tf.float32)
    labels = compat.as_keras_hands_on(labels, predictions)
    unreduced = loss.call if isinstance(loss, keras.losses.Loss) else loss
    values = tf.convert_to_tensor(unreduced(labels, predictions))
    if values.shape.rank == 0:
        raise ValueError(
            "Expected a loss that returns one value for each example (a function without a reduction, "
            f"or a keras.losses.Loss). Received a scalar from {loss}."
        )
    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)


def name_of(loss: Optional[LossFunction]) -> str:
    """The name of a loss, of its function, or of its class."""
    return getattr(loss, "name", None) or getattr(loss, "__name__", None) or type(loss).__name__


def expect_labels_in_range(labels: Labels, predictions: Predictions, loss: Optional[LossFunction]) -> Labels:
    """Checks labels as the loss takes them; see `labels.expect_labels`. Returns them."""
    if predictions.shape.rank == 2 and predictions.shape[1] == 1 and "binary" in name_of(loss).lower():
        return expect_probabilities(labels)
    return expect_labels(labels, predictions, label_kind(loss), ignored_class(loss))


def ignored_class(loss: Optional[LossFunction]) -> Optional[int]:
    """The label of examples that a loss leaves out, or `None`."""
    return loss.get_config().get("ignore_class") if isinstance(loss, keras.losses.Loss) else None


def label_kind(loss: Optional[LossFunction]) -> LabelKind:
    """What a loss takes for labels, `"any"` if it is not known.

    ```python
    print(fr.ops.losses.label_kind(keras.losses.SparseCategoricalCrossentropy()))  # indices
    ```
    """
    if isinstance(loss, (MarginLoss, LogOddsLoss)):
        return "either"
    names = kinds_of(loss)
    if any("sparse" in name for name in names):
        return "indices"
    if names & _OF_ONE_HOT:
        return "one_hot"
    return "each" if _own_of(loss).__module__.startswith("keras.") else "any"


def kinds_of(loss: Optional[LossFunction]) -> set[str]:
    """The names of a loss's function and class, whatever it is called itself, such as `"binarycrossentropy"`."""
    return {name.lower().replace("_", "") for name in (_own_of(loss).__name__, type(loss).__name__)}


def _own_of(loss):
    """The function of a loss, or its class."""
    function = getattr(loss, "fn", loss)
    return function if hasattr(function, "__name__") else type(function)

"""How far predictions have moved: the Kullback-Leibler divergence between two of them."""

import tensorflow as tf

from keras_flowreg.ops.labels import logits_of
from keras_flowreg.ops.losses import label_kind, name_of, takes_logits
from keras_flowreg.types import LossFunction, PerExample, Predictions


def kl_divergence(loss: LossFunction, before: Predictions, after: Predictions) -> PerExample:
    """The divergence KL(before ‖ after) of each example's predictions, as a cross-entropy understands them.

        Σ_k p_k · (log p_k - log q_k)

    Of a binary cross-entropy each output stands for two classes, and the divergence is the mean over the outputs, as the
    loss is.

    ```python
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    print(fr.ops.kl_divergence(loss, model(images), model(images / 2)))  # [batch]
    ```

    Args:
      loss: a cross-entropy, which says whether predictions are logits or probabilities.
      before: `[batch, classes]`, p; float32 or wider.
      after: of the same shape, q.

    Returns:
      `[batch]`, not negative but for rounding.

    Raises:
      ValueError: if the loss is no cross-entropy.
    """
    log_before, log_after = (_log_probabilities(loss, predictions) for predictions in (before, after))
    divergences = tf.reduce_sum(tf.exp(log_before) * (log_before - log_after), axis=-1)
    return tf.reduce_mean(tf.reshape(divergences, [tf.shape(before)[0], -1]), axis=1)


def _log_probabilities(loss, predictions):
    """`[batch, classes]`; `[batch, outputs, 2]` where each output has a probability of its own."""
    are_logits = takes_logits(loss)
    if are_logits is None:
        raise ValueError(
            "Expected a cross-entropy, whose `from_logits` says which probabilities the predictions are. "
            f"Received {name_of(loss)}."
        )
    if label_kind(loss) != "each":
        return tf.nn.log_softmax(predictions) if are_logits else logits_of(predictions)
    if are_logits:
        return tf.math.log_sigmoid(tf.stack([-predictions, predictions], axis=-1))
    return logits_of(tf.stack([1 - predictions, predictions], axis=-1))

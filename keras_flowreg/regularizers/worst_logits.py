"""Which logits are the worst for a loss, of all that bounds allow.

A cross-entropy of a softmax depends on the logits' differences alone, which are bounded more tightly than the logits. Other
losses of several outputs are at their worst where the label's logit is least, and every other one is greatest.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_flowreg.certification.activations import Sigmoid
from keras_flowreg.certification.leads import end_forms, lead_forms, logits_of_ends, logits_of_leads
from keras_flowreg.certification.network import Network
from keras_flowreg.certification.softmax import Softmax
from keras_flowreg.ops.losses import MarginLoss, kinds_of, label_kind, name_of, takes_logits
from keras_flowreg.types import LossFunction, Predictions

# Keras's losses of each output that do not fall as the label's gets smaller, or another one's greater.
_MONOTONE = {"binarycrossentropy", "binaryfocalcrossentropy", "hinge", "squaredhinge", "categoricalhinge"}


def worst_logits(
    network: Network, loss: LossFunction, indices: tf.Tensor, minimum: Callable[[tf.Tensor], tf.Tensor], classes: int
) -> Predictions:
    """The logits `[batch, classes]` at which a loss is greatest.

    Args:
      network: what the loss takes the predictions of.
      loss: a loss that `expect_monotone` takes.
      indices: the labels' class indices.
      minimum: bounds linear forms of the logits; see `Bounds.minimum`.
      classes: the number of logits.
    """
    if takes_differences(network, loss):
        return logits_of_leads(minimum(lead_forms(indices, classes)), indices)
    return logits_of_ends(minimum(end_forms(indices, classes)), indices)


def takes_differences(network: Network, loss: LossFunction) -> bool:
    """Whether a loss depends on nothing but the logits' differences; of a loss of one's own that is taken on trust."""
    if _ends_in(network, (Softmax, Sigmoid)):
        return _ends_in(network, Softmax)
    return takes_logits(loss) is not False and label_kind(loss) != "each"


def expect_monotone(network: Network, loss: LossFunction) -> None:
    """Checks that a loss does not fall as the label's logit gets smaller, or another one's greater.

    Raises:
      ValueError: if it is one of Keras's or of this library's that may, smooths its labels, or is a sum over the batch.
    """
    smoothing = (loss.get_config() if hasattr(loss, "get_config") else {}).get("label_smoothing")
    if smoothing:
        raise ValueError(
            "Expected a loss without label smoothing: with it a loss falls where a label's leads get smaller that are large. "
            f"Received {name_of(loss)} with label_smoothing={smoothing}."
        )
    is_monotone = _ends_in(network, Sigmoid) or (kinds_of(loss) & _MONOTONE and not _ends_in(network, Softmax))
    if _ends_in(network, Softmax) and (takes_logits(loss) or isinstance(loss, MarginLoss)):
        raise ValueError(
            "Expected a loss of probabilities that falls with no lead of the label, such as a cross-entropy, for a model that "
            f"ends in a softmax: its bound is trained. Received {name_of(loss)}, whose worst case needs logits."
        )
    if getattr(loss, "reduction", None) == "sum":
        raise ValueError(
            "Expected a loss that is a mean over the batch, as the penalty is: they are weighed against each other. "
            f'Received {name_of(loss)} with reduction="sum".'
        )
    if label_kind(loss) == "each" and not is_monotone:
        raise ValueError(
            "Expected a loss that does not fall as the label's lead over another class gets smaller, such as a "
            f"cross-entropy: its bound is trained. Received {name_of(loss)} of "
            f"{'probabilities' if _ends_in(network, Softmax) else 'logits'}."
        )


def _ends_in(network, kinds):
    return network.logits != network.output and isinstance(network.last, kinds)

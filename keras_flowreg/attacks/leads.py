"""How far a search has come with each example."""

from keras_flowreg.attacks.search import Candidate, Examples, Objective
from keras_flowreg.ops.labels import logits_of
from keras_flowreg.ops.losses import per_example_loss, resolve_loss, takes_logits
from keras_flowreg.types import Labels, PerExample, Predictions

_MARGIN = resolve_loss("margin")


def lead_is_below(part: float, objective: Objective, examples: Examples, best: Candidate) -> PerExample:
    """Which examples have less than a part of the lead left that they have without any perturbation.

    The lead is the label's logit minus the best other one. Predictions are taken for logits, unless the objective's loss
    takes probabilities: then their logarithms are, which no softmax flattens.

    Args:
      part: from 0 to 1.
      objective: the `Objective` that was searched.
      examples: the `Examples`.
      best: the best `Candidate` of each.

    Returns:
      bool `[batch]`.
    """
    loss = _margin_of_probabilities if takes_logits(objective.raised.loss) is False else _MARGIN
    measured = objective._replace(raised=objective.raised._replace(loss=loss))
    clean, found = measured.query_clean(examples), measured.query(examples, best.parameters)
    return found.loss > part * clean.loss


def _margin_of_probabilities(labels: Labels, predictions: Predictions) -> PerExample:
    return per_example_loss(_MARGIN, labels, logits_of(predictions))

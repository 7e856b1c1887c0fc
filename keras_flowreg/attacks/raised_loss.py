"""The loss that a search raises."""

from typing import NamedTuple, Optional

from keras_flowreg.ops.labels import LabelKind, expect_labels
from keras_flowreg.ops.losses import label_kind, per_example_loss
from keras_flowreg.types import Labels, LossFunction, PerExample, Predictions


class RaisedLoss(NamedTuple):
    """The loss that a search raises. Two of the same loss are equal, so that compiled gradients are found again."""

    loss: LossFunction
    targeted: bool
    ignored: Optional[int] = None  # the label of examples that the compiled loss leaves out

    @property
    def label_kind(self) -> LabelKind:
        """What labels are, which also have to say which class is right."""
        kind = label_kind(self.loss)
        if kind == "each":
            return "one_hot"
        return "either" if kind == "any" else kind

    def expect_labels(self, labels: Labels, predictions: Predictions) -> Labels:
        """Checks labels of these predictions; see `ops.labels.expect_labels`. Returns them."""
        return expect_labels(labels, predictions, self.label_kind, self.ignored)

    def __call__(self, labels: Labels, predictions: Predictions) -> PerExample:
        """The loss of each example; for a target, minus its loss."""
        losses = per_example_loss(self.loss, labels, predictions)
        return -losses if self.targeted else losses

"""The methods that bound the leads of examples, one after the other, each on what those before it leave open."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.branches import minimum_by_branches
from keras_flowreg.certification.choices import Chooser
from keras_flowreg.certification.leads import lead_forms
from keras_flowreg.certification.reach import Reach
from keras_flowreg.certification.refutations import are_refuted
from keras_flowreg.certification.slopes import minimum_by_best_slopes
from keras_flowreg.types import Predictions

METHODS = ("ibp", "crown_ibp", "crown", "alpha_crown", "beta_crown")
_BY_BRANCHES = METHODS[-1]
_ROUNDING = 1e-5  # a margin's, beside what bounds subtract themselves


class Prover:
    """Proves examples, batch after batch. What branches are for is gathered, until there is a whole batch of it.

    Args:
      chooser: a `Chooser` of the network.
      methods: the first of `METHODS`, in their order.
      is_selective: whether a method only takes the correct examples that the ones before it leave open.
      is_over: whether the time is over.
      logits: of all examples, `[examples, classes]`.
      indices: the labels' classes, int32 `[examples]`.
      at_once: how many examples are bounded together.

    Attributes:
      margin: `[examples]`, what is proven of each.
      by: int `[examples]`, the index of the method that gave it.
    """

    def __init__(
        self,
        chooser: Chooser,
        methods: Sequence[str],
        is_selective: bool,
        is_over: Callable[[], bool],
        logits: Predictions,
        indices: tf.Tensor,
        at_once: int,
    ):
        self._chooser = chooser
        self._methods = methods
        self._is_selective = is_selective
        self._is_over = is_over
        self._logits = logits
        self._indices = indices
        self._at_once = at_once
        self._gathered: list[tuple[Bounds, np.ndarray]] = []
        self.margin = np.full(len(logits), -np.inf, "float32")
        self.by = np.zeros(len(logits), int)

    def prove(self, reachable: Reach, rows: np.ndarray) -> None:
        """Proves a batch, as far as it can without branches.

        Args:
          reachable: what its images can become.
          rows: int `[batch]`, which examples they are.
        """
        bounds = Bounds(self._chooser.network, reachable)
        for method in self._methods:
            if self._is_selective and method != self._methods[0]:
                left = np.flatnonzero((self.margin[rows] <= 0) & (self._clean(rows) > 0))
                bounds, rows = bounds.of(left), rows[left]
            if not len(rows):
                return
            if method == _BY_BRANCHES:
                self._gather(bounds, rows)
            else:
                self._keep(method, rows, self._leads(method, bounds, self._forms(rows)))

    def finish(self) -> None:
        """Proves what is gathered, by branches."""
        if self._gathered:
            parts, rows = zip(*self._gathered)
            self._gathered, bounds, rows = [], Bounds.joined(parts), np.concatenate(rows)
            self._keep(_BY_BRANCHES, rows, minimum_by_branches(bounds, self._forms(rows), self._chooser, self._is_over))

    def _gather(self, bounds, rows):
        """Keeps a batch for later, but for what no branch can prove."""
        left = np.flatnonzero(~are_refuted(bounds, self._forms(rows)))
        if len(left):
            self._gathered.append((bounds.of(left), rows[left]))
        if sum(len(rows) for _, rows in self._gathered) >= self._at_once:
            self.finish()

    def _leads(self, method, bounds, forms):
        """The least of each lead. Intervals that one method has made narrower are there for the next one."""
        if method == "ibp":
            return bounds.minimum_by_intervals(forms)
        if method == "alpha_crown":
            return minimum_by_best_slopes(bounds, forms, self._chooser, self._is_over)
        if method == "crown":
            bounds.tighten(self._is_over)
        return bounds.minimum(forms)

    def _keep(self, method, rows, leads):
        """Keeps what a method has proven of examples, where it is more."""
        margins = np.minimum(self._least(leads, rows), self._clean(rows)) - _ROUNDING
        self.by[rows[margins > self.margin[rows]]] = METHODS.index(method)
        self.margin[rows] = np.maximum(self.margin[rows], margins)

    def _clean(self, rows):
        """The least lead of examples as they are."""
        return self._least(tf.einsum("blc,bc->bl", self._forms(rows), tf.gather(self._logits, rows)), rows)

    def _forms(self, rows):
        return lead_forms(tf.gather(self._indices, rows), self._logits.shape[1])

    def _least(self, leads, rows):
        """The least of all leads of an example, but for that of the label over itself."""
        is_own = tf.reduce_all(self._forms(rows) == 0, axis=2)
        proven = tf.where(tf.math.is_nan(leads), leads.dtype.min, leads)  # An overflow proves nothing.
        return tf.reduce_min(tf.where(is_own, leads.dtype.max, proven), axis=1).numpy()

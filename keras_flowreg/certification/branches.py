"""Branch and bound: what a bound leaves open is cut in two at an activation's input, and each half is bounded on its own.

A branch is a part of what an example can become: there inputs of activations lie in halves of their intervals. All branches
whose bounds are not positive are cut in two, again and again, until none is left.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.choices import Chooser, queries_at_once, stacked
from keras_flowreg.certification.forms import CROWN, Choice
from keras_flowreg.certification.splits import Half, likely_splits, score, within

_ENOUGH = 1e-4  # A bound of more is a proof.
_LOWEST = float(np.finfo("float32").min)  # that of an overflow
_STEPS = 10
_TRIED = 8  # splits of a branch, of which the best one is made
_MOST_SPLITS = 64  # of an example
_SPLITS_BEFORE_GIVING_UP = 8
_SEARCHES_AT_ONCE = 64
_BRANCHES_AT_ONCE = 256


class _Branch(NamedTuple):
    """A part of what an example can become, and what is known of one of its leads there."""

    example: int
    column: int  # of the lead
    halves: tuple[Half, ...] = ()
    least: float = -np.inf
    choice: Choice = CROWN  # by which the least was found

    @property
    def is_bounded(self) -> bool:
        return self.least > -np.inf

    def with_half(self, half: Half) -> "_Branch":
        return self._replace(halves=(*self.halves, half))


class _Search:
    """The branches of one example: of one of its open leads after the other, the lowest first."""

    def __init__(self, example: int, columns: Sequence[int]):
        self._example = example
        self._columns = list(columns)
        self._splits = 0
        self.begin()

    @property
    def lead(self) -> tuple[int, int]:
        """The example and the column of the lead."""
        return self._example, self._columns[0]

    @property
    def least(self) -> float:
        """What is proven of the lead."""
        return min([self._proven, *(branch.least for branch in self.open)])

    def begin(self) -> None:
        """Begins with all that the example can become."""
        self.open = [_Branch(*self.lead)]
        self._proven = np.inf
        self._first = -np.inf
        self._is_stuck = False

    def replace_open(self, branches: Sequence[_Branch]) -> None:
        """Goes on with other branches, which are bounded and cover those that were open."""
        splits = len(branches) - len(self.open)
        self._is_stuck = splits == 0 and self.open[0].is_bounded
        self._splits += splits
        if not self.open[0].is_bounded:
            (self._first,) = (branch.least for branch in branches)
        self.open = [branch for branch in branches if branch.least <= _ENOUGH]
        self._proven = min([self._proven, *(branch.least for branch in branches if branch.least > _ENOUGH)])

    def goes_on(self) -> bool:
        """Whether there is more to do; with the next lead, if this one is proven."""
        if self.open:
            return not self._is_hopeless()
        self._columns.pop(0)
        if self._columns:
            self.begin()
        return bool(self._columns)

    def _is_hopeless(self):
        """Whether the splits that are left would not do at the pace of those that are made."""
        if self._is_stuck:
            return True
        risen = (self.least - self._first) / (_ENOUGH - self._first)
        return self._splits >= _SPLITS_BEFORE_GIVING_UP and risen < self._splits / _MOST_SPLITS


def minimum_by_branches(bounds: Bounds, forms: tf.Tensor, chooser: Chooser, is_over: Callable[[], bool]) -> tf.Tensor:
    """The least of linear forms of the logits; more than CROWN's, where that is not positive and branches prove more.

    What is found of an example does not depend on others.

    Args:
      bounds: the intervals.
      forms: `[batch, forms, classes]`.
      chooser: a `Chooser` of the network.
      is_over: asked again and again; once it says so, what is found so far is returned.

    Returns:
      Lower bounds, `[batch, forms]`.

    Reference: Wang et al., "Beta-CROWN: efficient bound propagation with per-neuron split constraints for neural network
    robustness verification", 2021. Splits are chosen as by De Palma et al., "Improved branch and bound for neural network
    verification via Lagrangian decomposition", 2021: the likely ones are tried. Both only cut ReLUs, one branch at a time.
    """
    least = bounds.minimum(forms).numpy()
    is_open = (least <= _ENOUGH) & np.any(forms != 0, axis=2)
    lowest_first = np.argsort(least, axis=1)
    examples = np.flatnonzero(np.any(is_open, axis=1)).tolist()
    waiting = [_Search(each, [lead for lead in lowest_first[each] if is_open[each, lead]]) for each in examples]
    active: list[_Search] = []
    while (active or waiting) and not is_over():
        active, waiting = (active + waiting)[:_SEARCHES_AT_ONCE], (active + waiting)[_SEARCHES_AT_ONCE:]
        _advance(active, _Bounding(bounds, forms, chooser))
        for search in active:
            least[search.lead] = max(least[search.lead], search.least)
        active = [search for search in active if search.goes_on()]
    return tf.constant(least)


def _advance(searches, bounding):
    """Bounds the branches that are not bounded yet, and those that come of the others, cut in two."""
    cut = iter(bounding.cut([branch for search in searches for branch in search.open if branch.is_bounded]))
    parts = [
        [part for branch in search.open for part in (next(cut) if branch.is_bounded else [branch])]
        for search in searches
    ]
    found = iter(bounding.bounded([part for of_search in parts for part in of_search]))
    for search, of_search in zip(searches, parts):
        search.replace_open([next(found) for _ in of_search])


class _Bounding(NamedTuple):
    """How branches are bounded."""

    bounds: Bounds
    forms: tf.Tensor
    chooser: Chooser

    def bounded(self, branches: Sequence[_Branch]) -> list[_Branch]:
        """The branches with their bounds."""
        found = []
        for chunk in self._chunks(branches):
            part, coefficients, start = self._queries(chunk)
            best = self.chooser.best(part, coefficients, start, _STEPS)
            for row, branch in enumerate(chunk):
                least = max(branch.least, float(best.least[row]), _LOWEST)
                found.append(branch._replace(least=least, choice=best.choice_of(row)))
        return found

    def cut(self, branches: Sequence[_Branch]) -> list[list[_Branch]]:
        """The halves of each branch, by the best of its likely splits; the branch itself, if there is none."""
        splits = [split for chunk in self._chunks(branches) for split in self._likely_splits(chunk)]
        pairs = [
            [[branch.with_half(half) for half in split] for split in likely] for branch, likely in zip(branches, splits)
        ]
        tried = [half for of_branch in pairs for pair in of_branch for half in pair]
        found = iter([least for chunk in self._chunks(tried) for least in self.chooser.least(*self._queries(chunk))])
        cut = []
        for branch, of_branch in zip(branches, pairs):
            scores = [score([next(found) - branch.least for _ in pair], -branch.least) for pair in of_branch]
            cut.append(of_branch[int(np.argmax(scores))] if scores else [branch])
        return cut

    def _likely_splits(self, branches):
        part, coefficients, choice = self._queries(branches)
        return likely_splits(part, coefficients, choice, _TRIED)

    def _queries(self, branches):
        """The bounds over each branch, the coefficients of its lead, and its choice."""
        examples, columns = ([getattr(branch, name) for branch in branches] for name in ("example", "column"))
        part = within(self.bounds.of(tf.constant(examples)), [branch.halves for branch in branches])
        coefficients = tf.gather_nd(self.forms, np.stack([examples, columns], axis=1))
        return part, coefficients, stacked([branch.choice for branch in branches], part)

    def _chunks(self, branches):
        """As many branches as fit into memory."""
        size = min(_BRANCHES_AT_ONCE, queries_at_once(self.bounds))
        return [branches[start : start + size] for start in range(0, len(branches), size)]

"""Bounds of linear forms of a network's values: by intervals, and backward by lines (CROWN).

A query asks for the least that Σ coefficients · value can be, of one value of the network, for one example. Its linear form
goes backward through the steps. At a step that is not linear, lines take its place, one for each sign of the coefficients.
At the images, the least of the form is known: the displacements are tried.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.activations import LeakyReLU
from keras_flowreg.certification.intervals import Interval, sum_per_example
from keras_flowreg.certification.network import Network
from keras_flowreg.certification.reach import Reach
from keras_flowreg.certification.steps import Relaxation
from keras_flowreg.certification.windows import Window
from keras_flowreg.types import PerExample

Slopes = dict[int, tf.Tensor]  # of the lines below ReLUs, [queries, ...], by the number of the ReLU's value

_ROUNDING = 4e-6  # of the sums that a bound is made of
_CANCELLATION = 5e-7  # of the absolute terms of every sum on its way, which may cancel each other
_NUMBERS_AT_ONCE = 2**23  # in the largest value of all queries that are taken backward together


class Bounds:
    """The intervals of all values of a network over what a batch of images can become, and queries of them.

    Args:
      network: a `Network`.
      reach: what the images can become.
      rounding: what float32 may change of each sum, as a part of the sum of its absolute terms; 0 spares the work.
    """

    def __init__(self, network: Network, reach: Reach, rounding: float = _CANCELLATION):
        self._network = network
        self._reach = reach
        self._rounding = rounding
        self._values = network.intervals(reach.box, rounding)
        self._relaxations: dict[int, Relaxation] = {}
        self._terms: dict[int, Optional[tf.Tensor]] = {}  # of values that only get narrower

    @property
    def logits(self) -> Interval:
        """The interval of the logits, `[batch, classes]`."""
        return self._values[self._network.logits]

    @property
    def before_relus(self) -> list[Interval]:
        """The interval of what goes into each ReLU."""
        return [self._values[place.inputs[0]] for place in self._relus()]

    def minimum_by_intervals(self, forms: tf.Tensor) -> tf.Tensor:
        """The least of linear forms of the logits, by the intervals before the last linear steps.

        Args:
          forms: `[batch, forms, classes]`, several for each example.

        Returns:
          Lower bounds, `[batch, forms]`.
        """
        coefficients, examples = _queries(forms)
        form, _ = self._through_linear_steps(self._network.logits, Window(coefficients))
        least = [self._minimum_of_value(number, part, examples) for number, part in form.parts.items()]
        return tf.reshape(self._sum(form, least), tf.shape(forms)[:2])

    def minimum(self, forms: tf.Tensor) -> tf.Tensor:
        """The least of linear forms of the logits, by lines. Argument and result as of `minimum_by_intervals`."""
        coefficients, examples = _queries(forms)
        chunks = [slice(None)]
        if tf.executing_eagerly():  # In a graph, the number of examples need not be known.
            starts = range(0, len(examples), self.queries_at_once)
            chunks = [slice(start, start + starts.step) for start in starts]
        least = [self.minimum_of_queries(coefficients[chunk], examples[chunk]) for chunk in chunks]
        return tf.reshape(tf.concat(least, axis=0), tf.shape(forms)[:2])

    def minimum_of_queries(
        self, coefficients: tf.Tensor, examples: tf.Tensor, slopes: Optional[Slopes] = None
    ) -> PerExample:
        """The least of linear forms of the logits, by lines.

        Args:
          coefficients: `[queries, classes]`.
          examples: int `[queries]`, the example that each is about.
          slopes: other ones of the lines below ReLUs, within `slope_ranges`; `None` for CROWN's.

        Returns:
          Lower bounds, `[queries]`.
        """
        return self._minimum(self._network.logits, Window(coefficients), None, examples, slopes or {})

    def slopes(self, examples: tf.Tensor) -> Slopes:
        """CROWN's slopes of the lines below ReLUs, for queries about some examples."""
        return {place.output: tf.gather(self._relaxation(place)[0], examples) for place in self._relus()}

    def slope_ranges(self, examples: tf.Tensor) -> dict[int, Interval]:
        """The slopes that those lines may have."""
        relus = {place.output: (place.step, self._values[place.inputs[0]]) for place in self._relus()}
        return {number: step.slope_range(interval).of(examples) for number, (step, interval) in relus.items()}

    @property
    def queries_at_once(self) -> int:
        """Of the logits, of how many the coefficients fit into memory."""
        return self._queries_at_once(self._network.logits)

    def of(self, examples: tf.Tensor) -> "Bounds":
        """Those of some examples, by their indices."""
        chosen = copy.copy(self)
        chosen._reach = self._reach.of(examples)
        chosen._values = [interval.of(examples) for interval in self._values]
        chosen._relaxations = {}
        return chosen

    def tighten(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Bounds by lines what goes into each step that is not linear, from the first step to the last.

        Args:
          is_over: asked again and again; once it says so, what is left stays as it is.
        """
        self._relaxations = {}
        # Steps that are not linear bound their own output already.
        left = {place.output for place in self._network.places if place.step.is_linear}
        for place in self._network.places[: self._network.logits]:
            if not place.step.is_linear:
                for number in left.intersection(place.inputs):
                    self._tighten(number, place.step.is_loose(self._values[number]), is_over)
                left -= {*place.inputs}
            interval = place.interval(self._values, self._rounding)
            self._values[place.output] = self._values[place.output].intersect(interval)

    def _tighten(self, number, is_loose, is_over):
        """Bounds a value by lines, where it is loose."""
        interval = self._values[number]
        low, high = (np.array(end).reshape(len(end), -1) for end in interval)
        # Queries of the same number of several examples stand together, since they begin alike.
        indices, examples = np.nonzero(np.array(is_loose).reshape(low.shape).T)
        step = self._queries_at_once(number) // 2
        for start in range(0, len(indices), step):
            if is_over():
                break
            chunk = slice(start, start + step)
            least, greatest = self._ends(number, indices[chunk], examples[chunk])
            # An overflow, NaN, says nothing.
            low[examples[chunk], indices[chunk]] = np.fmax(low[examples[chunk], indices[chunk]], least)
            high[examples[chunk], indices[chunk]] = np.fmin(high[examples[chunk], indices[chunk]], greatest)
        tightened = (tf.reshape(tf.constant(end), interval.low.shape) for end in (low, high))
        self._values[number] = interval.intersect(Interval(*tightened))  # Which may not meet, by rounding.

    def _ends(self, number, indices, examples):
        """The least and the greatest of single numbers of a value."""
        distinct, rows = np.unique(indices, return_inverse=True)
        rows = np.concatenate([rows, rows + len(distinct)])
        start = Window.around(distinct, self._values[number].low.shape[1:]).with_negative()
        bounds = self._minimum(number, start, rows, np.concatenate([examples, examples]), {})
        least, negative_greatest = np.split(bounds.numpy(), 2)
        return least, -negative_greatest

    def _relus(self):
        return [place for place in self._network.places[: self._network.logits] if isinstance(place.step, LeakyReLU)]

    def _minimum(self, number, start, rows, examples, slopes):
        """The least of linear forms of a value.

        Args:
          number: of the value.
          start: the `Window` of the coefficients of all forms.
          rows: int `[queries]`, the form of each query; `None` if each has its own.
          examples: int `[queries]`.
          slopes: those that are not CROWN's.
        """
        # As far as all is linear, a form is the same for every example.
        form, places = self._through_linear_steps(number, start)
        form = form if rows is None else form.of(rows)
        for place in reversed(places):
            if place.output in form.parts:
                form = self._through(place, form, examples, slopes)
        return self._sum(form, [self._reach.minimum(part, examples) for part in form.parts.values()])

    def _through_linear_steps(self, number, start):
        """A form, taken backward to the last step that is not linear; and the places that are left."""
        form = _Form({number: start}, [], [])
        places = self._network.places
        for index in reversed(range(len(places))):
            if places[index].output in form.parts:
                if not places[index].step.is_linear:
                    return form, places[: index + 1]
                form = self._through(places[index], form, None, {})
        return form, []

    def _sum(self, form, minima):
        """The sum of a form's constants and of its parts' minima, and a little less, against rounding."""
        sums = tf.stack([*form.constants, *minima])
        least = tf.reduce_sum(sums, axis=0) - _ROUNDING * tf.reduce_sum(tf.abs(sums), axis=0)
        if not self._rounding:
            return least
        sizes = [window.sum_of_sizes(self._values[number].largest) for number, window in form.parts.items()]
        return least - self._rounding * tf.add_n([*form.sizes, *sizes])

    def _through(self, place, form, examples, slopes):
        """A form, taken backward through one step."""
        parts = dict(form.parts)
        window, sliding = parts.pop(place.output), place.step.sliding
        shapes = [self._values[number].low.shape[1:] for number in place.inputs]
        # A sum may repeat an input along another's sides: then each of its pixels is seen by all.
        is_local = sliding is not None and len(shapes[0]) == 3 and len({tuple(shape[:2]) for shape in shapes}) == 1
        if not is_local:
            window = Window(window.whole(self._values[place.output].low.shape[1:]))
            seen = shapes
        else:
            seen = [(*sliding.covered(window.coefficients.shape[1:3]), shape[-1]) for shape in shapes]
        relaxation = [tf.gather(window.cut(part), examples) for part in self._relaxation(place)]
        if place.output in slopes:
            relaxation[0] = window.cut(slopes[place.output])
        of_inputs, terms = place.step.backward(window.coefficients, seen, relaxation)
        for number, part, shape in zip(place.inputs, of_inputs, shapes):
            found = window.seen(part, sliding, shape[:2]) if is_local else Window(part)
            parts[number] = parts[number].plus(found) if number in parts else found
        constants, sizes = [*form.constants], [*form.sizes]
        if terms is not None:
            constants.append(sum_per_example(terms))
            sizes.append(sum_per_example(tf.abs(terms)))
        if self._rounding and self._terms_of(place) is not None:
            sizes.append(window.sum_of_sizes(self._terms_of(place)))
        return _Form(parts, constants, sizes)

    def _terms_of(self, place):
        if place.output not in self._terms:
            self._terms[place.output] = place.terms(self._values)
        return self._terms[place.output]

    def _relaxation(self, place):
        if place.output not in self._relaxations:
            inputs = [self._values[number] for number in place.inputs]
            self._relaxations[place.output] = place.step.relax(*inputs)
        return self._relaxations[place.output]

    def _minimum_of_value(self, number, window, examples):
        if number == 0:
            return self._reach.minimum(window, examples)
        return Interval(*map(window.cut, self._values[number])).of(examples).minimum(window.coefficients)

    def _queries_at_once(self, number):
        largest = max(int(np.prod(value.low.shape[1:])) for value in self._values[: number + 1])
        return max(2, _NUMBERS_AT_ONCE // largest)


def _queries(forms):
    """Each form on its own: coefficients `[queries, classes]`, and examples `[queries]`."""
    examples = tf.repeat(tf.range(tf.shape(forms)[0]), tf.shape(forms)[1])
    return tf.reshape(forms, [-1, forms.shape[2]]), examples


class _Form(NamedTuple):
    """Linear forms: Σ of parts[number] · value of that number, plus constants."""

    parts: dict[int, Window]
    constants: list[tf.Tensor]  # [queries]
    sizes: list[tf.Tensor]  # [queries], sums of the absolute terms that are in constants and coefficients

    def of(self, rows: np.ndarray) -> "_Form":
        """Some of the forms, by their indices."""
        parts = {number: part.of(rows) for number, part in self.parts.items()}
        return _Form(parts, *([tf.gather(sums, rows) for sums in kind] for kind in (self.constants, self.sizes)))

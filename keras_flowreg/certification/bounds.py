"""Bounds of linear forms of a network's values: by intervals, and backward by lines (CROWN).

A query asks for the least that Σ coefficients · value can be, of one value of the network, for one example. Its linear form
goes backward through the steps. At a step that is not linear, lines take its place, one for each sign of the coefficients.
At the images, the least of the form is known: the displacements are tried.
"""

from collections.abc import Callable, Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.forms import CROWN, Choice, Form, queries_of
from keras_flowreg.certification.intervals import Interval, sum_per_example
from keras_flowreg.certification.network import Network, Place
from keras_flowreg.certification.reach import Reach
from keras_flowreg.certification.steps import Relaxation
from keras_flowreg.certification.windows import Window
from keras_flowreg.types import PerExample

_ROUNDING = 4e-6  # of the sums that a bound is made of
_CANCELLATION = 5e-7  # of the absolute terms of every sum on its way, as `Step.terms` weighs them; they may cancel
_NUMBERS_AT_ONCE = 2**23  # in the largest value of all queries that are taken backward together


class Bounds:
    """The intervals of all values of a network over what a batch of images can become, and queries of them.

    Args:
      network: a `Network`.
      reach: what the images can become.
      rounding: what float32 may change of each sum, as a part of the sum of its absolute terms; 0 spares the work.
      values: the intervals, where they are known; by default they are computed.
      limits: of inputs of activations, by their number; see `within`.
    """

    def __init__(
        self,
        network: Network,
        reach: Reach,
        rounding: float = _CANCELLATION,
        values: Optional[Sequence[Interval]] = None,
        limits: Optional[dict[int, Interval]] = None,
    ):
        self.network = network
        self.reach = reach
        self._rounding = rounding
        self._values = network.intervals(reach.box, rounding) if values is None else [*values]
        self.limits = limits or {}
        self._relaxations: dict[int, Relaxation] = {}
        self._terms: dict[int, Optional[tf.Tensor]] = {}  # of values that only get narrower

    @property
    def logits(self) -> Interval:
        """The interval of the logits, `[batch, classes]`."""
        return self._values[self.network.logits]

    @property
    def before_relus(self) -> list[Interval]:
        """The interval of what goes into each ReLU."""
        return [self.inputs(place) for place in self.network.relus]

    def minimum_by_intervals(self, forms: tf.Tensor) -> tf.Tensor:
        """The least of linear forms of the logits, by the intervals before the last linear steps.

        Args:
          forms: `[batch, forms, classes]`, several for each example.

        Returns:
          Lower bounds, `[batch, forms]`.
        """
        coefficients, examples = queries_of(forms)
        form, _ = self._through_linear_steps(self.network.logits, Window(coefficients))
        least = [self._minimum_of_value(number, part, examples) for number, part in form.parts.items()]
        return tf.reshape(self._sum(form, least), tf.shape(forms)[:2])

    def minimum(self, forms: tf.Tensor) -> tf.Tensor:
        """The least of linear forms of the logits, by lines. Argument and result as of `minimum_by_intervals`."""
        coefficients, examples = queries_of(forms)
        chunks = [slice(None)]
        if tf.executing_eagerly():  # In a graph, the number of examples need not be known.
            starts = range(0, len(examples), self.queries_at_once)
            chunks = [slice(start, start + starts.step) for start in starts]
        least = [self.minimum_of_queries(coefficients[chunk], examples[chunk]) for chunk in chunks]
        return tf.reshape(tf.concat(least, axis=0), tf.shape(forms)[:2])

    def minimum_of_queries(
        self,
        coefficients: tf.Tensor,
        examples: tf.Tensor,
        choice: Choice = CROWN,
        passed: Optional[dict[int, Window]] = None,
    ) -> PerExample:
        """The least of linear forms of the logits, by lines.

        Args:
          coefficients: `[queries, classes]`.
          examples: int `[queries]`, the example that each is about.
          choice: a `Choice`; CROWN's by default.
          passed: is given the coefficients of each value on the way, by its number.

        Returns:
          Lower bounds, `[queries]`.
        """
        return self._minimum(self.network.logits, Window(coefficients), None, examples, choice, passed)

    def inputs(self, place: Place) -> Interval:
        """What goes into an activation."""
        return self._values[place.inputs[0]]

    def within(self, limits: dict[int, Interval]) -> "Bounds":
        """The bounds over those images alone for which inputs of activations lie within limits.

        Args:
          limits: by the number of the input, infinite where there is none.
        """
        narrowed = Bounds(self.network, self.reach, self._rounding, self._values, limits)
        for number, limit in limits.items():
            narrowed._values[number] = narrowed._values[number].intersect(limit)
        for place in self.network.places_before_logits:
            narrowed._narrow(place)
        return narrowed

    @property
    def queries_at_once(self) -> int:
        """Of the logits, of how many the coefficients fit into memory."""
        return self._queries_at_once(self.network.logits)

    def of(self, examples: tf.Tensor) -> "Bounds":
        """Those of some examples, by their indices."""
        values = [interval.of(examples) for interval in self._values]
        limits = {number: limit.of(examples) for number, limit in self.limits.items()}
        chosen = Bounds(self.network, self.reach.of(examples), self._rounding, values, limits)
        chosen._terms = dict(self._terms)
        return chosen

    @property
    def tensors(self) -> tuple[Reach, list[Interval], dict[int, Interval]]:
        """What the bounds are made of: the reach, the values and the limits."""
        return self.reach, self._values, self.limits

    def prepare(self) -> None:
        """Computes what queries need of the intervals, which is then kept."""
        for place in self.network.places_before_logits:
            self.relaxation(place)
            self._terms_of(place)

    @staticmethod
    def joined(parts: Sequence["Bounds"]) -> "Bounds":
        """Those of several batches as one, of the same network and without limits."""
        values = [Interval.joined(intervals) for intervals in zip(*(part._values for part in parts))]
        return Bounds(parts[0].network, Reach.joined([part.reach for part in parts]), parts[0]._rounding, values)

    def tighten(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Bounds by lines what goes into each step that is not linear, from the first step to the last.

        Args:
          is_over: asked again and again; once it says so, what is left stays as it is.
        """
        self._relaxations, self._terms = {}, {}
        # Steps that are not linear bound their own output already.
        left = {place.output for place in self.network.places if place.step.is_linear}
        for place in self.network.places_before_logits:
            if not place.step.is_linear:
                for number in left.intersection(place.inputs):
                    self._tighten(number, place.step.is_loose(self._values[number]), is_over)
                left -= {*place.inputs}
            self._narrow(place)

    def _narrow(self, place):
        """Bounds a value by the intervals before it."""
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
        bounds = self._minimum(number, start, rows, np.concatenate([examples, examples]), CROWN)
        least, negative_greatest = np.split(bounds.numpy(), 2)
        return least, -negative_greatest

    def _minimum(self, number, start, rows, examples, choice, passed=None):
        """The least of linear forms of a value.

        Args:
          number: of the value.
          start: the `Window` of the coefficients of all forms.
          rows: int `[queries]`, the form of each query; `None` if each has its own.
          examples: int `[queries]`.
          choice: a `Choice`.
          passed: a dict or `None`, as of `minimum_of_queries`.
        """
        # As far as all is linear, a form is the same for every example.
        form, places = self._through_linear_steps(number, start)
        form = form if rows is None else form.of(rows)
        for place in reversed(places):
            if place.output in form.parts:
                if passed is not None:
                    passed[place.output] = form.parts[place.output]
                form = self._through(place, form, examples, choice)
        return self._sum(form, [self.reach.minimum(part, examples) for part in form.parts.values()])

    def _through_linear_steps(self, number, start):
        """A form, taken backward to the last step that is not linear; and the places that are left."""
        form = Form({number: start}, [], [])
        places = self.network.places
        for index in reversed(range(len(places))):
            if places[index].output in form.parts:
                if not places[index].step.is_linear:
                    return form, places[: index + 1]
                form = self._through(places[index], form, None, CROWN)
        return form, []

    def _sum(self, form, minima):
        """The sum of a form's constants and of its parts' minima, and a little less, against rounding."""
        sums = tf.stack([*form.constants, *minima])
        least = tf.reduce_sum(sums, axis=0) - _ROUNDING * tf.reduce_sum(tf.abs(sums), axis=0)
        if not self._rounding:
            return least
        sizes = [window.sum_of_sizes(self._values[number].largest) for number, window in form.parts.items()]
        return least - self._rounding * tf.add_n([*form.sizes, *sizes])

    def _through(self, place, form, examples, choice):
        """A form, taken backward through one step."""
        parts = dict(form.parts)
        window, sliding = parts.pop(place.output), place.step.sliding
        shapes = [self._values[number].low.shape[1:] for number in place.inputs]
        # A sum may repeat an input along another's sides: then each of its pixels is seen by all.
        are_images = all(len(shape) == 3 for shape in shapes)
        is_local = sliding is not None and are_images and len({tuple(shape[:2]) for shape in shapes}) == 1
        if not is_local:
            window = Window(window.whole(self._values[place.output].low.shape[1:]))
            seen = shapes
        else:
            seen = [(*sliding.covered(window.coefficients.shape[1:3]), shape[-1]) for shape in shapes]
        relaxation = [tf.gather(window.cut(part), examples) for part in self.relaxation(place)]
        if place.output in choice.slopes:
            relaxation[0] = window.cut(choice.slopes[place.output])
        of_inputs, terms = place.step.backward(window.coefficients, seen, relaxation)
        terms = [] if terms is None else [terms]
        if place.output in choice.multipliers:
            multipliers = window.cut(choice.multipliers[place.output])
            of_inputs[0] -= multipliers
            terms.append(multipliers * self._limits_at(place, window, examples, multipliers))
        for number, part, shape in zip(place.inputs, of_inputs, shapes):
            found = window.seen(part, sliding, shape[:2]) if is_local else Window(part)
            parts[number] = parts[number].plus(found) if number in parts else found
        constants = [*form.constants, *(sum_per_example(each) for each in terms)]
        sizes = [*form.sizes, *(sum_per_example(tf.abs(each)) for each in terms)]
        if self._terms_of(place) is not None:
            sizes.append(window.sum_of_sizes(self._terms_of(place)))
        return Form(parts, constants, sizes)

    def _limits_at(self, place, window, examples, multipliers):
        """The ends of inputs that multipliers are about: the least for positive ones, the greatest for negative ones."""
        ends = (*self.inputs(place), self.limits[place.inputs[0]].low)
        low, high, limit = (tf.gather(window.cut(end), examples) for end in ends)
        return tf.where(tf.math.is_finite(limit) & (multipliers >= 0), low, high)

    def _terms_of(self, place):
        if place.output not in self._terms:
            self._terms[place.output] = place.terms(self._values) if self._rounding else None
        return self._terms[place.output]

    def relaxation(self, place: Place) -> Relaxation:
        """What a step needs of the intervals; see `Step.relax`."""
        if place.output not in self._relaxations:
            inputs = [self._values[number] for number in place.inputs]
            self._relaxations[place.output] = place.step.relax(*inputs)
        return self._relaxations[place.output]

    def _minimum_of_value(self, number, window, examples):
        if number == 0:
            return self.reach.minimum(window, examples)
        return Interval(*map(window.cut, self._values[number])).of(examples).minimum(window.coefficients)

    def _queries_at_once(self, number):
        largest = max(int(np.prod(value.low.shape[1:])) for value in self._values[: number + 1])
        return max(2, _NUMBERS_AT_ONCE // largest)

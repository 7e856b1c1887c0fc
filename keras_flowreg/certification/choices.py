"""Optimized choices: gradient steps on what queries may choose at activations. Each step gives a bound; the best is kept."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.forms import Choice
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.network import Network
from keras_flowreg.ops.signatures import spec_of_any_batch

_STEP_SIZE = 0.25
_MOMENTA = (0.9, 0.999)
_SMALLER_CHUNKS = 4  # since gradients take memory, too


class Best(NamedTuple):
    """The best of what was tried for each query."""

    least: np.ndarray  # [queries], the lower bound
    choice: Choice  # by which it was found: np.ndarray [queries, ...]

    def choice_of(self, query: int) -> Choice:
        """The choice of one query."""
        return Choice(*({number: values[query] for number, values in kind.items()} for kind in self.choice))


class Chooser:
    """Optimizes the choices of queries, one about each example of some bounds. It is traced once for a network.

    Args:
      network: a `Network`.
    """

    def __init__(self, network: Network):
        self.network = network
        self._compiled_least = tf.function(self._least, autograph=False)
        self._compiled_best = tf.function(self._best, autograph=False)

    def least(self, bounds: Bounds, coefficients: tf.Tensor, choice: Choice) -> np.ndarray:
        """The lower bounds by a choice, `[queries]`.

        Args:
          bounds: the intervals, of an example for each query.
          coefficients: of forms of the logits, `[queries, classes]`.
          choice: what they choose.
        """
        return _run(self._compiled_least, bounds.tensors, coefficients, choice).numpy()

    def best(self, bounds: Bounds, coefficients: tf.Tensor, start: Choice, steps: int) -> Best:
        """The best of the choices that steps of Adam come by, the start among them. The arguments are those of `least`."""
        found = _run(self._compiled_best, bounds.tensors, coefficients, start, tf.constant(steps))
        return Best(*tf.nest.map_structure(lambda tensor: tensor.numpy(), found))

    def _least(self, tensors, coefficients, choice):
        bounds = self._restored(tensors)
        return bounds.minimum_of_queries(coefficients, tf.range(tf.shape(coefficients)[0]), choice)

    def _restored(self, tensors):
        reach, values, limits = tensors
        return Bounds(self.network, reach, values=values, limits=limits)

    def _best(self, tensors, coefficients, start, steps):
        bounds = self._restored(tensors)
        examples = tf.range(tf.shape(coefficients)[0])
        allowed = [kind[number] for kind in ranges(bounds) for number in sorted(kind)]
        bounds.prepare()

        def step(count, values, momenta, squares, least, best):
            with tf.GradientTape() as tape:
                tape.watch(values)
                found = bounds.minimum_of_queries(coefficients, examples, tf.nest.pack_sequence_as(start, values))
            is_better = found > least  # An overflow, NaN, says nothing.
            best = [tf.where(_along(is_better, kept), new, kept) for new, kept in zip(values, best)]
            gradients = tape.gradient(found, values, unconnected_gradients="zero")
            momenta = [_mixed(*pair, _MOMENTA[0]) for pair in zip(momenta, gradients)]
            squares = [_mixed(square, gradient**2, _MOMENTA[1]) for square, gradient in zip(squares, gradients)]
            moves = [_move(*pair, count, steps) for pair in zip(momenta, squares)]
            values = [tf.clip_by_value(value + move, *ends) for value, move, ends in zip(values, moves, allowed)]
            return count + 1, values, momenta, squares, tf.where(is_better, found, least), best

        values = tf.nest.flatten(start)
        zeros = [tf.zeros_like(value) for value in values]
        nothing = tf.fill(tf.shape(examples), -np.float32(np.inf))
        state = (tf.constant(0), values, zeros, zeros, nothing, values)
        *_, least, best = tf.while_loop(lambda count, *_: count <= steps, step, state)
        return least, tf.nest.pack_sequence_as(start, best)


def _run(function, *arguments):
    """Calls a function that is traced once for batches of any size."""
    tensors = tf.nest.map_structure(lambda value: None if value is None else tf.convert_to_tensor(value), arguments)
    specs = tf.nest.map_structure(lambda tensor: None if tensor is None else spec_of_any_batch(tensor), tensors)
    function.get_concrete_function(*specs)
    return function(*tensors)


def _mixed(old, new, share):
    return share * old + (1 - share) * new


def _move(momentum, square, count, steps):
    """Adam's, by a step size that falls along a cosine."""
    number = tf.cast(count + 1, momentum.dtype)
    first, second = (1 - share**number for share in _MOMENTA)
    size = _STEP_SIZE * (1 + tf.cos(np.pi * (number - 1) / tf.maximum(tf.cast(steps, momentum.dtype), 1))) / 2
    return size * (momentum / first) / (tf.sqrt(square / second) + 1e-7)


def _along(is_better, values):
    return tf.reshape(is_better, [-1] + [1] * (values.shape.rank - 1))


def crowns_choice(bounds: Bounds) -> Choice:
    """CROWN's slopes, and no multiplier, for a query about each example."""
    slopes = {place.output: bounds.relaxation(place)[0] for place in bounds.network.relus}
    return Choice(slopes, {place.output: tf.zeros_like(limit.low) for place, limit in _limited(bounds)})


def ranges(bounds: Bounds) -> tuple[dict[int, Interval], dict[int, Interval]]:
    """The slopes that lines below ReLUs may have, and the multipliers of limits, for a query about each example."""
    slopes = {place.output: place.step.slope_range(bounds.inputs(place)) for place in bounds.network.relus}
    return slopes, {place.output: _multiplier_range(limit) for place, limit in _limited(bounds)}


def _limited(bounds):
    """The activations of limited inputs, and their limits."""
    places = bounds.network.activations
    return [(place, bounds.limits[place.inputs[0]]) for place in places if place.inputs[0] in bounds.limits]


def _multiplier_range(limit):
    """Positive ones are of the least that an input may be, negative ones of the greatest."""
    low, high = (tf.math.is_finite(end) for end in limit)
    return Interval(tf.where(high, -np.inf, 0.0), tf.where(low, np.inf, 0.0))


def stacked(choices: Sequence[Choice], bounds: Bounds) -> Choice:
    """A choice for each example, of single ones; CROWN's where they have none. It is brought into the ranges."""
    kinds = zip(zip(*choices), crowns_choice(bounds), ranges(bounds))
    return Choice(*(_stacked(*kind) for kind in kinds))


def _stacked(given, crowns, allowed):
    values = {number: start.numpy() for number, start in crowns.items()}
    for row, of_row in enumerate(given):
        for number, value in of_row.items():
            values[number][row] = value
    return {number: tf.clip_by_value(value, *allowed[number]) for number, value in values.items()}


def queries_at_once(bounds: Bounds) -> int:
    """Of the logits, of how many the choices and their gradients fit into memory."""
    return max(1, bounds.queries_at_once // _SMALLER_CHUNKS)

"""Splits: the interval of an activation's input, cut in two. On each half the lines come nearer to the activation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.forms import Choice
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.windows import Window

_TRIED = (0.0, 0.5, 1.0)  # parts of each half
_HIGHER_HALF = 0.1  # what counts of the half that gains more


class Half(NamedTuple):
    """One half of an interval that is cut in two."""

    number: int  # of the value
    place: int  # in the value, flattened
    point: float
    is_upper: bool


Split = tuple[Half, Half]


def within(bounds: Bounds, halves: Sequence[Sequence[Half]]) -> Bounds:
    """The bounds over those images alone for which inputs of activations lie in halves.

    Args:
      bounds: the intervals.
      halves: for each example.
    """
    limits = {place.inputs[0]: _no_limits(bounds.inputs(place).low.shape) for place in bounds.network.activations}
    for example, of_example in enumerate(halves):
        for half in of_example:
            low, high = (end[example].reshape(-1) for end in limits[half.number])
            if half.is_upper:
                low[half.place] = max(low[half.place], half.point)
            else:
                high[half.place] = min(high[half.place], half.point)
    return bounds.within({number: Interval(*map(tf.constant, limit)) for number, limit in limits.items()})


def _no_limits(shape):
    return Interval(np.full(shape, -np.inf, "float32"), np.full(shape, np.inf, "float32"))


def likely_splits(bounds: Bounds, coefficients: tf.Tensor, choice: Choice, count: int) -> list[list[Split]]:
    """The splits that promise most for a query about each example: those where both halves spare much.

    Args:
      bounds: the intervals.
      coefficients: of the forms of the logits, `[batch, classes]`.
      choice: a choice for each.
      count: how many splits, at most.
    """
    passed: dict[int, Window] = {}
    bounds.minimum_of_queries(coefficients, tf.range(len(coefficients)), choice, passed)
    numbers, places, points, spared = [], [], [], []
    for activation in bounds.network.activations:
        if activation.output in passed:
            of_activation = _spared(bounds, activation, passed[activation.output], choice)
            spared.append(_flat(of_activation))
            points.append(_flat(activation.step.split_point(bounds.inputs(activation))))
            places.append(np.arange(spared[-1].shape[1]))
            numbers.append(np.full(len(places[-1]), activation.inputs[0]))
    if not spared:
        return [[] for _ in coefficients]
    numbers, places, points, spared = (np.concatenate(each, axis=-1) for each in (numbers, places, points, spared))
    splits = []
    for points_of_example, of_example in zip(points, spared):
        most = [at for at in np.argsort(-of_example)[:count] if of_example[at] > 0]
        splits.append([_split(int(numbers[at]), int(places[at]), float(points_of_example[at])) for at in most])
    return splits


def score(gains: Sequence[float], needed: float) -> float:
    """How good a split is.

    Args:
      gains: by how much the bound of each half seems to rise. A loss is none: what is proven of the whole holds for a half.
      needed: of this much no more is of use.
    """
    low, high = sorted(min(max(gain, 0.0), needed) for gain in gains)
    return low + _HIGHER_HALF * high


def _split(number, place, point):
    return Half(number, place, point, False), Half(number, place, point, True)


def _flat(values):
    return np.reshape(values, [len(values), -1])


def _spared(bounds, activation, window, choice):
    """What lines lose on the half on which they lose less, times the coefficient, for each number: `[batch, ...]`."""
    inputs, step = bounds.inputs(activation), activation.step
    coefficients = window.whole(inputs.low.shape[1:])
    low_slope, low_intercept, high_slope, high_intercept = bounds.relaxation(activation)
    low_slope = choice.slopes.get(activation.output, low_slope)
    point = step.split_point(inputs)
    below, above = [], []
    for half in (Interval(inputs.low, point), Interval(point, inputs.high)):
        tried = [half.low + part * (half.high - half.low) for part in _TRIED]
        values = [step.value(each) for each in tried]
        below.append(tf.add_n([value - low_slope * x - low_intercept for x, value in zip(tried, values)]))
        above.append(tf.add_n([high_slope * x + high_intercept - value for x, value in zip(tried, values)]))
    spared = tf.nn.relu(coefficients) * tf.minimum(*below) + tf.nn.relu(-coefficients) * tf.minimum(*above)
    return tf.where(step.is_loose(inputs), spared, 0)

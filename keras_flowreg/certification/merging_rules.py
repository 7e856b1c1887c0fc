"""Rules for layers that merge several values: sums, products, the greatest of them, and one beside the other."""

import tensorflow as tf
from keras import layers

from keras_flowreg.certification.intervals import of_one_rank
from keras_flowreg.certification.products import Product
from keras_flowreg.certification.rules import register_rule
from keras_flowreg.certification.steps import Linear, MaxPool, Step
from keras_flowreg.certification.windows import Sliding


@register_rule(layers.Add)
def _add(layer):
    return [sum_step()]


@register_rule(layers.Average)
def _average(layer):
    return [Linear(lambda *inputs: _sum(*inputs) / len(inputs), sliding=Sliding())]


@register_rule(layers.Subtract)
def _subtract(layer):
    return [difference_step()]


@register_rule(layers.Multiply)
def _multiply(layer):
    return [Product()]


@register_rule(layers.Maximum)
def _maximum(layer):
    return greatest_steps()


@register_rule(layers.Minimum)
def _minimum(layer):
    return least_steps()


@register_rule(layers.Concatenate)
def _concatenate(layer):
    return [Linear(lambda *inputs: tf.concat(inputs, layer.axis), sliding=Sliding() if layer.axis == -1 else None)]


def sum_step() -> Linear:
    """The sum of the inputs, which are repeated along axes of size 1."""
    return Linear(_sum, sliding=Sliding())


def difference_step() -> Linear:
    """The first input minus the second."""
    return Linear(lambda first, second: _sum(first, -second), absolute=_sum, sliding=Sliding())


def negative_step() -> Linear:
    """The input with the other sign."""
    return Linear(tf.negative, absolute=tf.identity, sliding=Sliding())


def greatest_steps() -> list[Step]:
    """The steps to the greatest of the inputs, which are repeated along axes of size 1."""
    return [Linear(_beside_each_other), MaxPool(tf.identity)]


def least_steps() -> list[Step]:
    """The steps to the least of them."""
    beside = Linear(lambda *inputs: -_beside_each_other(*inputs), absolute=_beside_each_other)
    return [beside, MaxPool(tf.identity), negative_step()]


def _sum(*inputs):
    first, *others = of_one_rank(inputs)
    return sum(others, first)


def _beside_each_other(*inputs):
    """Several values of each number, on an axis before the last: `[batch, ..., values, channels]`."""
    parts = of_one_rank(inputs)
    zeros = sum(map(tf.zeros_like, parts))
    return tf.stack([part + zeros for part in parts], axis=-2)

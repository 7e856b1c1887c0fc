"""Linear forms of a network's values, on their way backward, and what queries may choose there."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.windows import Window

OfActivations = dict[int, tf.Tensor]  # [queries, ...], by the number of the activation's value


class Choice(NamedTuple):
    """What queries choose at activations. Each choice in the ranges of `choices.ranges` gives a lower bound."""

    slopes: OfActivations = {}  # of the lines below ReLUs; CROWN's where there is none
    # How far an input is within its limit, times the multiplier, is taken from the form. It is not negative.
    multipliers: OfActivations = {}


CROWN = Choice()


class Form(NamedTuple):
    """Linear forms: Σ of parts[number] · value of that number, plus constants."""

    parts: dict[int, Window]
    constants: list[tf.Tensor]  # [queries]
    sizes: list[tf.Tensor]  # [queries], sums of the absolute terms that are in constants and coefficients

    def of(self, rows: np.ndarray) -> "Form":
        """Some of the forms, by their indices."""
        parts = {number: part.of(rows) for number, part in self.parts.items()}
        return Form(parts, *([tf.gather(sums, rows) for sums in kind] for kind in (self.constants, self.sizes)))


def queries_of(forms: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Each of several forms `[batch, forms, classes]` on its own: coefficients `[queries, classes]`, examples `[queries]`."""
    examples = tf.repeat(tf.range(tf.shape(forms)[0]), tf.shape(forms)[1])
    return tf.reshape(forms, [-1, forms.shape[2]]), examples

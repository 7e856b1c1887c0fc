"""Optimized slopes: lines below ReLUs that gradient steps choose (alpha-CROWN).

Where the sign of a ReLU's input is not known, every line through zero with a slope from 0 to 1 lies below the ReLU. So each
choice gives a bound, and the greatest of them is kept. Each query has slopes of its own; the intervals stay as they are.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.choices import Chooser, crowns_choice, queries_at_once

_STEPS = 20


def minimum_by_best_slopes(
    bounds: Bounds, forms: tf.Tensor, chooser: Chooser, is_over: Callable[[], bool]
) -> tf.Tensor:
    """The least of linear forms of the logits; more than CROWN's, where that is not positive and steps find more.

    Args:
      bounds: the intervals.
      forms: `[batch, forms, classes]`.
      chooser: a `Chooser` of the network.
      is_over: asked again and again; once it says so, what is found so far is returned.

    Returns:
      Lower bounds, `[batch, forms]`.

    Reference: Xu et al., "Fast and complete: enabling complete verification with rapid and massively parallel incomplete
    verifiers" (alpha-CROWN), 2021. They optimize the slopes behind the intervals, too.
    """
    least = bounds.minimum(forms).numpy()
    examples, columns = np.nonzero((least <= 0) & np.any(forms != 0, axis=2))
    step = queries_at_once(bounds)
    for start in range(0, len(examples), step):
        if is_over():
            break
        rows = examples[start : start + step], columns[start : start + step]
        part, coefficients = bounds.of(rows[0]), tf.gather_nd(forms, np.stack(rows, axis=1))
        found = chooser.best(part, coefficients, crowns_choice(part), _STEPS)
        least[rows] = np.fmax(least[rows], found.least)
    return tf.constant(least)

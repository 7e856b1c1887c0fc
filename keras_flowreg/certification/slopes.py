"""Optimized slopes: lines below ReLUs that gradient steps choose (alpha-CROWN).

Where the sign of a ReLU's input is not known, every line through zero with a slope from 0 to 1 lies below the ReLU. So each
choice gives a bound, and the greatest of them is kept. Each query has slopes of its own; the intervals stay as they are.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg.certification.bounds import Bounds

_STEPS = 20
_STEP_SIZE = 0.25
_SMALLER_CHUNKS = 4  # since gradients take memory, too


def minimum_by_best_slopes(bounds: Bounds, forms: tf.Tensor, is_over: Callable[[], bool]) -> tf.Tensor:
    """The least of linear forms of the logits; more than CROWN's, where that is not positive and steps find more.

    Args:
      bounds: the intervals.
      forms: `[batch, forms, classes]`.
      is_over: asked before each step; once it says so, what is found so far is returned.

    Returns:
      Lower bounds, `[batch, forms]`.

    Reference: Xu et al., "Fast and complete: enabling complete verification with rapid and massively parallel incomplete
    verifiers" (alpha-CROWN), 2021. They optimize the slopes behind the intervals, too.
    """
    least = bounds.minimum(forms).numpy()
    examples, columns = np.nonzero((least <= 0) & np.any(forms != 0, axis=2))
    step = max(1, bounds.queries_at_once // _SMALLER_CHUNKS)
    for start in range(0, len(examples), step):
        rows = examples[start : start + step], columns[start : start + step]
        found = _ascend(bounds, tf.gather_nd(forms, np.stack(rows, axis=1)), rows[0], is_over)
        least[rows] = np.fmax(least[rows], found)  # An overflow, NaN, says nothing.
    return tf.constant(least)


def _ascend(bounds, coefficients, examples, is_over):
    """The greatest bound of each query that the steps come by."""
    slopes = {number: tf.Variable(start) for number, start in bounds.slopes(examples).items()}
    ranges = bounds.slope_ranges(examples)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(_STEP_SIZE, _STEPS))
    best = np.full(len(examples), -np.inf, "float32")
    for _ in range(_STEPS if slopes else 0):
        if is_over():
            break
        with tf.GradientTape() as tape:
            found = bounds.minimum_of_queries(coefficients, examples, slopes)
            loss = -found
        best = np.fmax(best, found)
        gradients = tape.gradient(loss, list(slopes.values()), unconnected_gradients="zero")
        optimizer.apply_gradients(zip(gradients, slopes.values()))
        for number, variable in slopes.items():
            variable.assign(tf.clip_by_value(variable, *ranges[number]))
    return best

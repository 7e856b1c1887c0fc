"""The penalty on a gradient, and its derivative by a finite difference."""

from collections.abc import Callable

import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.types import Parameters, PerExample

GRADIENT_NORMS = ("squared_l2", "l2", "l1")


def penalty_of(gradients: Parameters, gradient_norm: str) -> PerExample:
    """The penalty on the gradient of each example: the ℓ1 norm, the ℓ2 norm, or its square."""
    if gradient_norm == "l1":
        return balls.LInfBall(1.0).dual_norm(gradients)
    lengths = balls.L2Ball(1.0).dual_norm(gradients)
    return lengths if gradient_norm == "l2" else tf.square(lengths)


def penalty_by_finite_difference(
    gradients: Parameters,
    gradient_norm: str,
    losses: PerExample,
    losses_after: Callable[[Parameters], PerExample],
    step_size: float,
) -> PerExample:
    """The same penalty, with the difference of two losses for its derivative.

    The derivative of a penalty p(g) is ∂p/∂g · ∂g, and ∂p/∂g · g is the slope of the loss along the fixed direction ∂p/∂g.

    Args:
      gradients: ∂loss/∂θ.
      gradient_norm: one of `GRADIENT_NORMS`.
      losses: the losses at θ.
      losses_after: takes a step in θ, and returns the losses there.
      step_size: the largest component of the step.
    """
    gradients = tf.stop_gradient(gradients)
    with tf.GradientTape() as tape:
        tape.watch(gradients)
        penalties = penalty_of(gradients, gradient_norm)
    direction = tape.gradient(penalties, gradients)
    length = balls.LInfBall(1.0).norm(direction)
    per_example = tf.reshape(length, tf.concat([tf.shape(length), tf.ones([tf.rank(direction) - 1], tf.int32)], 0))
    step = step_size * tf.math.divide_no_nan(direction, per_example)
    slopes = length * tf.cast(losses_after(step) - losses, length.dtype) / step_size
    return penalties + slopes - tf.stop_gradient(slopes)

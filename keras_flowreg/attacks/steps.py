"""What the step-by-step searches of a ball share: where they start, and how long their steps are."""

import math

import tensorflow as tf

from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_positive_integer

STEP_DECAYS = ("constant", "linear", "cosine")


def step_scale(decay, count, steps):
    """The fraction of its first size that step `count` of `steps` has: 1 at the first."""
    done = tf.cast(count, tf.float32) / steps
    if decay == "constant":
        return tf.ones_like(done)
    return 1 - done if decay == "linear" else (1 + tf.cos(math.pi * done)) / 2


def add_momentum(velocity, gradient, momentum):
    """momentum · velocity + gradient / mean |gradient|, each example on its own."""
    axes = list(range(1, gradient.shape.rank))
    size = tf.reduce_mean(tf.abs(gradient), axis=axes, keepdims=True)
    return momentum * velocity + tf.math.divide_no_nan(gradient, size)


def best_of_restarts(attack, ascend, examples, best, seed):
    """The best `Candidate` after each run of a search.

    Args:
      attack: the `Attack`, with `restarts`, `random_start` and `ball`.
      ascend: one run: takes (`Examples`, where it starts, the best `Candidate` so far), and returns the best.
      examples, best, seed: as `Attack.search` takes them.
    """

    def run(restart, best):
        return restart + 1, ascend(examples, _start(attack, examples, seed, restart), best)

    _, best = tf.while_loop(lambda restart, best: restart < attack.restarts, run, (0, best), parallel_iterations=1)
    return best


def expect_restarts(restarts, random_start):
    """Checks how many runs there are."""
    if expect_positive_integer("restarts", restarts) > 1 and not random_start:
        raise ValueError("Expected `random_start=True` for several restarts. Received False: all would be alike.")
    return int(restarts)


def _start(attack, examples, seed, restart):
    """Where a run starts: a uniform draw from the ball, or zero."""
    identity = attack.perturbation.identity(examples.images)
    if not attack.random_start:
        return identity
    seed = random.fold_in(seed, restart)

    def sample(batch):
        return tf.cast(attack.ball.sample(tf.concat([[batch], tf.shape(identity)[1:]], 0), seed), identity.dtype)

    return tf.ensure_shape(examples.draw(sample), identity.shape)

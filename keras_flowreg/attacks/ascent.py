"""What the step-by-step ascents in a ball share: where they start, and how long and which way their steps are."""

import math
from typing import Any, Callable, Optional

import tensorflow as tf

from keras_flowreg.attacks.search import Candidate, Examples, Objective, loop
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.types import Parameters, Scalar, Seed

STARTS = ("random", "zero")
STEP_DECAYS = ("constant", "linear", "cosine")


def step_scale(decay: str, count: Scalar, steps: int) -> Scalar:
    """How large a step is, as a fraction of the first one: 1 at the first."""
    done = tf.cast(count, tf.float32) / steps
    if decay == "constant":
        return tf.ones_like(done)
    return 1 - done if decay == "linear" else (1 + tf.cos(math.pi * done)) / 2


def add_momentum(velocity: Parameters, gradient: Parameters, momentum: float) -> Parameters:
    """momentum · velocity + gradient / mean |gradient|, for each example on its own."""
    axes = list(range(1, gradient.shape.rank))
    size = tf.reduce_mean(tf.abs(gradient), axis=axes, keepdims=True)
    return momentum * velocity + tf.math.divide_no_nan(gradient, size)


def best_of_restarts(
    attack: Any,
    ascend: Callable[[Objective, Examples, Parameters, Candidate, Seed], Candidate],
    objective: Objective,
    examples: Examples,
    best: Candidate,
    seed: Seed,
) -> Candidate:
    """The best `Candidate` after each run of an ascent.

    Args:
      attack: the `Attack`, with `restarts`, `start` and `ball`.
      ascend: one run. It takes the `Objective`, the `Examples`, where it starts, the best `Candidate` so far and a seed of
        its own, and returns the best one.
      objective, examples, best, seed: what `Attack.search` is given.
    """

    def run(restart, best):
        start = _start(attack, objective, examples, seed, restart)
        return restart + 1, ascend(objective, examples, start, best, random.fold_in(seed, attack.restarts + restart))

    return loop(lambda restart, best: restart < attack.restarts, run, (0, best))[1]


def expect_ascent(
    attack: Any,
    *,
    steps: int,
    step_size: Optional[float],
    start: str,
    restarts: int,
    momentum: float,
    step_decay: str,
) -> None:
    """Checks the options that every ascent has, and keeps them on the attack."""
    attack.steps = expect_positive_integer("steps", steps)
    attack.step_size = None if step_size is None else expect_not_negative("step_size", step_size)
    attack.start = expect_one_of("start", start, STARTS)
    attack.restarts = expect_positive_integer("restarts", restarts)
    if attack.restarts > 1 and start != "random":
        raise ValueError(f"Expected `start='random'` for several restarts. Received {start!r}: all would be alike.")
    attack.momentum = expect_not_negative("momentum", momentum)
    attack.step_decay = expect_one_of("step_decay", step_decay, STEP_DECAYS)


def _start(attack, objective, examples, seed, restart):
    """Where a run starts: a uniform draw from the ball, or zero."""
    identity = objective.perturbation.identity(examples.images)
    if attack.start == "zero":
        return identity
    return examples.draw_like(identity, lambda shape: attack.ball.sample(shape, random.fold_in(seed, restart)))

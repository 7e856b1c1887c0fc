"""Ascent towards the exact worst flow of the linearized model: across the warp's kinks."""

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.steps import (
    STEP_DECAYS,
    add_momentum,
    best_of_restarts,
    expect_restarts,
    step_scale,
)
from keras_flowreg.ops.reach import displacements_within, farthest_displacements
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.perturbations import Flow

NORMS = ("linf", "pixel_l2")


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowFrankWolfe(Attack):
    """Ascent towards the flow that is worst for the linearized *model*, with the warp as it is.

        v  ← momentum · v + ∂loss/∂z / mean |∂loss/∂z|,    z = T(x; f)
        f* = argmax over the ball of <v, T(x; ·)>,  pixel by pixel
        f  ← f + the part of (f* - f) within step_size

    `FlowPGD` linearizes the loss in the flow, and the bilinear warp has a kink at every whole position: its
    slope on one side of a pixel says nothing of the other side, and the ascent stays where it started. Here
    only the model is linearized. What a pixel can become by moving is known exactly: its extreme values lie
    at whole positions and on the ball's edge (see `ops.reach`), so the best displacement of all is found by
    trying those, for the cost of a few shifted images. Every step reaches over all kinks in the ball.

    Args:
      model: as `Attack`.
      epsilon: the radius of the ball, in pixels. The work of a step grows with its square.
      steps: in each run.
      step_size: the farthest that a component moves in the first step, in pixels; `None` for ε.
      random_start: whether a run starts at a uniform draw from the ball; else at zero.
      restarts: how many runs; several need a random start.
      momentum: how much of the last direction a step keeps; 0 for none.
      step_decay: how the step size falls to zero over a run: `"constant"` (it does not), `"linear"` or
        `"cosine"`.
      norm: `"linf"` or `"pixel_l2"`; see `FlowPGD`.
      **options: `loss`, `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Frank and Wolfe, "An algorithm for quadratic programming", 1956, for steps towards the maximum
    of a linearization. That only the model is linearized, and not the warp, is this library's.
    """

    def __init__(
        self,
        model,
        epsilon,
        steps=20,
        step_size=None,
        *,
        random_start=False,
        restarts=1,
        momentum=0.75,
        step_decay="cosine",
        norm="linf",
        **options,
    ):
        super().__init__(model, **options)
        self.steps = expect_positive_integer("steps", steps)
        self.random_start = bool(random_start)
        self.restarts = expect_restarts(restarts, self.random_start)
        self.momentum = expect_not_negative("momentum", momentum)
        self.step_decay = expect_one_of("step_decay", step_decay, STEP_DECAYS)
        self.norm = expect_one_of("norm", norm, NORMS)
        self.ball = balls.get(norm, epsilon)
        self.step_size = step_size if step_size is None else expect_not_negative("step_size", step_size)

    @property
    def perturbation(self):
        return Flow()

    def search(self, examples, clean, seed):
        return best_of_restarts(self, self._ascend, examples, clean, seed)

    def _ascend(self, examples, start, best):
        """One run; its last iterate is judged too."""
        displacements = displacements_within(self.norm, self.ball.epsilon)
        step_size = self.ball.epsilon if self.step_size is None else self.step_size

        def step(count, examples, state):
            flow, velocity = state
            images = self.perturbation.apply(examples.images, flow)
            losses, success, upstream = self.differentiate(images, examples.labels)
            velocity = add_momentum(velocity, upstream, self.momentum)
            farthest, is_moved = farthest_displacements(examples.images, velocity, displacements)
            reach = step_size * tf.cast(step_scale(self.step_decay, count, self.steps), flow.dtype)
            move = tf.where(is_moved[..., tf.newaxis], tf.clip_by_value(farthest - flow, -reach, reach), 0)
            # Rounding may lead out of the ball by a hair.
            return self.candidate(flow, losses, success), (self.ball.project(flow + move), velocity)

        best, (flow, _) = self.iterate(step, self.steps, examples, best, (start, tf.zeros_like(examples.images)))
        return self.consider(examples, best, flow)

    def options(self):
        return {
            **super().options(),
            "epsilon": self.ball.epsilon,
            "steps": self.steps,
            "step_size": self.step_size,
            "random_start": self.random_start,
            "restarts": self.restarts,
            "momentum": self.momentum,
            "step_decay": self.step_decay,
            "norm": self.norm,
        }

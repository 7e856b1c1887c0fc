"""Ascent towards the exact worst flow of the linearized model: across the warp's kinks."""

from typing import Any, Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.ascent import add_momentum, best_of_restarts, expect_ascent, step_scale
from keras_flowreg.attacks.ball_attack import BallAttack
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate, query_once
from keras_flowreg.ops.linear_maximization import extreme_displacements, maximizing_flow
from keras_flowreg.ops.validation import as_scalar, expect_one_of
from keras_flowreg.perturbations import Flow, Perturbation
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowFrankWolfe(BallAttack):
    """Ascent towards the flow that is worst for the linearized *model*, with the warp as it is.

        v  ← momentum · v + ∂loss/∂z / mean |∂loss/∂z|,    z = T(x; f)
        f* = argmax over the ball of <v, T(x; ·)>,  pixel by pixel
        f  ← f + the part of (f* - f) within step_size

    `FlowPGD` linearizes the loss in the flow. But the bilinear warp has a kink at every whole position: its slope on one side
    says nothing of the other side, and the ascent stays where it started. Here only the model is linearized. What a pixel
    can become by moving is known exactly. Its extreme values lie at whole positions and on the ball's edge (see
    `ops.linear_maximization`), so the best displacement is found by trying those, for the cost of a few shifted images.
    Every step sees over all kinks in the ball.

    ```python
    adversarial_images = fr.attacks.FlowFrankWolfe(epsilon=0.4, steps=5)(images, labels, model=model)
    ```

    Args:
      epsilon: the radius of the ball, in pixels. The work of a step grows with its square, up to 8 pixels.
      steps: how many steps a run has.
      step_size: how far a component moves at most in the first step, in pixels; `None` for ε.
      start: where a run starts: `"random"` for a uniform draw from the ball, `"zero"` for no flow.
      restarts: how many runs there are. Several need a random start.
      momentum: how much of the last direction a step keeps; 0 for none.
      step_decay: how the step size falls to zero over a run: `"linear"` or `"cosine"`. With `"constant"` it does not.
      norm: `"linf"` or `"pixel_l2"`; see `FlowPGD`.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Frank and Wolfe, "An algorithm for quadratic programming", 1956, for steps towards the maximum of a
    linearization. To linearize only the model, and not the warp, is this library's idea.
    """

    number_options = ("epsilon", "step_size")

    def __init__(
        self,
        epsilon: float,
        *,
        steps: int = 20,
        step_size: Optional[float] = None,
        start: str = "zero",
        restarts: int = 1,
        momentum: float = 0.75,
        step_decay: str = "cosine",
        norm: str = "linf",
        loss: Optional[Loss] = None,
        targeted: bool = False,
        value_range: ValueRange = (0.0, 1.0),
        seed: int = 0,
        jit_compile: JitCompile = "auto",
        name: Optional[str] = None,
    ):
        super().__init__(
            loss=loss, targeted=targeted, value_range=value_range, seed=seed, jit_compile=jit_compile, name=name
        )
        self.norm = expect_one_of("norm", norm, balls.PER_PIXEL_NORMS)
        self.epsilon = balls.get(norm, epsilon).epsilon
        self._displacements = tuple(extreme_displacements(norm, self.epsilon))
        expect_ascent(
            self,
            steps=steps,
            step_size=step_size,
            start=start,
            restarts=restarts,
            momentum=momentum,
            step_decay=step_decay,
        )

    @property
    def perturbation(self) -> Perturbation:
        return Flow()

    def search_key(self) -> Any:
        return super().search_key(), self._displacements

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        def run(objective, examples, start, best, _seed):
            best, flow = self._ascend(objective, examples, start, best)
            return query_once(objective, examples, best, flow)

        return best_of_restarts(self, run, objective, examples, clean, seed)

    def _ascend(self, objective, examples, start, best):
        """One run: the best `Candidate`, and its last iterate, which is not queried."""
        step_size = self.epsilon if self.step_size is None else self.step_size

        def step(count, examples, state):
            flow, velocity = state
            candidate, gradient = objective.query_with_image_gradient(examples, flow)
            velocity = add_momentum(velocity, gradient, self.momentum)
            farthest, is_moved = maximizing_flow(examples.images, velocity, self._displacements, self.epsilon)
            limit = as_scalar(step_size, flow.dtype) * tf.cast(
                step_scale(self.step_decay, count, self.steps), flow.dtype
            )
            move = tf.where(is_moved[..., tf.newaxis], tf.clip_by_value(farthest - flow, -limit, limit), 0)
            # Rounding may lead out of the ball by a hair.
            return candidate, (self.ball.project(flow + move), velocity)

        best, (flow, _) = iterate(step, self.steps, examples, best, (start, tf.zeros_like(examples.images)))
        return best, flow

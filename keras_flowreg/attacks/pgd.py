"""Projected gradient ascent inside a norm ball, over any perturbation."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.ascent import add_momentum, best_of_restarts, expect_ascent, step_scale
from keras_flowreg.attacks.ball_attack import BallAttack
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate, query_once
from keras_flowreg.ops.validation import expect_instance
from keras_flowreg.perturbations import Perturbation
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange


@keras.saving.register_keras_serializable(package="keras_flowreg")
class PGD(BallAttack):
    """Projected gradient ascent of the loss over the parameters θ of a perturbation.

        v ← momentum · v + ∂loss/∂θ / mean |∂loss/∂θ|
        θ ← project( θ + step_size · steepest(v) ), into the ball, and of noise into the range of values

    A run starts at random in the ball, or at zero. There are as many runs as `restarts` says. The clean image is the
    first candidate.

    ```python
    rotations = fr.attacks.PGD(fr.perturbations.Affine(), epsilon=3.0, steps=5, norm="l2")
    adversarial_images = rotations(images, labels, model=model)
    ```

    Args:
      perturbation: the `Perturbation` T(x; θ).
      epsilon: the radius of the ball, in θ's units.
      steps: how many gradient steps a run has.
      step_size: the size of the first step, in θ's units; `None` for 2.5 · epsilon / steps.
      start: where a run starts: `"random"` for a uniform draw from the ball, `"zero"` for the identity.
      restarts: how many runs there are. Several need a random start.
      momentum: how much of the last direction a step keeps; 0 for none.
      step_decay: how the step size falls to zero over a run: `"linear"` or `"cosine"`. With `"constant"` it does not.
      norm: what is at most ε: with `"linf"` every component of θ, with `"pixel_l2"` the length of every vector on θ's
        last axis, with `"l2"` the length of θ as one vector.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, for the
    method; Dong et al., "Boosting adversarial attacks with momentum", 2018, for the momentum.
    """

    number_options = ("epsilon", "step_size")

    def __init__(
        self,
        perturbation: Perturbation,
        epsilon: float,
        *,
        steps: int = 20,
        step_size: Optional[float] = None,
        start: str = "random",
        restarts: int = 1,
        momentum: float = 0.0,
        step_decay: str = "constant",
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
        self._perturbation = expect_instance("perturbation", perturbation, Perturbation)
        self.norm = norm
        self.epsilon = balls.get(norm, epsilon).epsilon
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
        return self._perturbation

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        return best_of_restarts(self, self._ascend, objective, examples, clean, seed)

    def _ascend(self, objective, examples, start, best, _seed):
        """One run; its last iterate is queried too."""
        step_size = 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
        step_ball = balls.get(self.norm, step_size)

        def step(count, examples, state):
            parameters, velocity = state
            candidate, gradient = objective.query_with_gradient(examples, parameters)
            velocity = add_momentum(velocity, gradient, self.momentum) if self.momentum else gradient
            ascent = tf.cast(step_scale(self.step_decay, count, self.steps), parameters.dtype)
            ascent *= step_ball.steepest_ascent(velocity)
            return candidate, (self._inside(examples.images, parameters + ascent), velocity)

        start = self._inside(examples.images, start)
        best, (parameters, _) = iterate(step, self.steps, examples, best, (start, tf.zeros_like(start)))
        return query_once(objective, examples, best, parameters)

    def _inside(self, images, parameters):
        """θ, brought back into the ball, and where values are in their range."""
        return self.ball.project(self.perturbation.within(images, parameters, self.value_range))

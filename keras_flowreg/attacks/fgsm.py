"""One gradient step to the border of a norm ball."""

from typing import Optional

import keras

from keras_flowreg import balls
from keras_flowreg.attacks.ball_attack import BallAttack
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate, query_once
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow, Perturbation
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowFGSM(BallAttack):
    """One gradient step to the border of the ball: f = ε · steepest(∂loss/∂f at 0).

    That is the flow along which the loss of the clean image rises most.

    ```python
    adversarial_images = fr.attacks.FlowFGSM(epsilon=0.4)(images, labels, model=model)
    ```

    Args:
      epsilon: the radius of the ball, in pixels.
      norm: `"linf"`, `"pixel_l2"` or `"l2"`; see `FlowPGD`.
      lattice: the warp's derivative at integer positions, where the step starts: `"forward"`, `"backward"` or
        `"central"`; see `ops.warp`.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Goodfellow et al., "Explaining and harnessing adversarial examples", 2015.
    """

    number_options = ("epsilon",)

    def __init__(
        self,
        epsilon: float,
        *,
        norm: str = "linf",
        lattice: str = "central",
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
        self.norm = norm
        self.epsilon = balls.get(norm, epsilon).epsilon
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)

    @property
    def perturbation(self) -> Perturbation:
        return Flow(self.lattice)

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        def step(count, examples, flow):
            candidate, gradient = objective.query_with_gradient(examples, flow)
            return candidate, self.ball.steepest_ascent(gradient)

        best, flow = iterate(step, 1, examples, clean, clean.parameters)
        return query_once(objective, examples, best, flow)

"""Random flows: the floor that every search must beat."""

from typing import Optional

import keras

from keras_flowreg import balls
from keras_flowreg.attacks.ball_attack import BallAttack
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_positive_integer
from keras_flowreg.perturbations import Flow, Perturbation
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange


@keras.saving.register_keras_serializable(package="keras_flowreg")
class RandomFlow(BallAttack):
    """The worst of several uniform draws from the ball, for each example on its own: a floor for every search.

    ```python
    adversarial_images = fr.attacks.RandomFlow(epsilon=0.4)(images, labels, model=model)
    ```

    Args:
      epsilon: the radius of the ball, in pixels.
      draws: how many flows are drawn for each example.
      norm: `"linf"`, `"pixel_l2"` or `"l2"`; see `FlowPGD`.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.
    """

    number_options = ("epsilon",)
    needs_gradient = False

    def __init__(
        self,
        epsilon: float,
        *,
        draws: int = 10,
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
        self.draws = expect_positive_integer("draws", draws)
        self.norm = norm
        self.epsilon = balls.get(norm, epsilon).epsilon

    @property
    def perturbation(self) -> Perturbation:
        return Flow()

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        def step(count, examples, state):
            identity = objective.perturbation.identity(examples.images)
            flow = examples.draw_like(identity, lambda shape: self.ball.sample(shape, random.fold_in(seed, count)))
            return objective.query(examples, flow), state

        return iterate(step, self.draws, examples, clean, ())[0]

"""One gradient step to the border of a norm ball."""

import keras

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowFGSM(Attack):
    """The flow of the ball along which the loss of the clean image rises most: f = ε · steepest(∂loss/∂f at 0).

    Args:
      model: as `Attack`.
      epsilon: the radius of the ball, in pixels.
      norm: `"linf"`, `"pixel_l2"` or `"l2"`; see `FlowPGD`.
      lattice: the warp's derivative at integer positions, where the step starts; see `ops.warp`.
      **options: `loss`, `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Goodfellow et al., "Explaining and harnessing adversarial examples", 2015.
    """

    def __init__(self, model, epsilon, *, norm="linf", lattice="central", **options):
        super().__init__(model, **options)
        self.norm = norm
        self.ball = balls.get(norm, epsilon)
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)

    @property
    def perturbation(self):
        return Flow(self.lattice)

    def search(self, examples, clean, seed):
        def step(count, examples, flow):
            candidate, gradient = self.judge_and_differentiate(examples, flow)
            return candidate, self.ball.steepest_ascent(gradient)

        best, flow = self.iterate(step, 1, examples, clean, clean.parameters)
        return self.consider(examples, best, flow)

    def options(self):
        return {**super().options(), "epsilon": self.ball.epsilon, "norm": self.norm, "lattice": self.lattice}

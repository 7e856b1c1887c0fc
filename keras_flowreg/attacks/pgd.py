"""Projected gradient ascent inside a norm ball."""

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.steps import (
    STEP_DECAYS,
    add_momentum,
    expect_restarts,
    random_or_zero_start,
    step_scale,
)
from keras_flowreg.ops.units import pixels_from_normalized
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow, SmoothFlow


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowPGD(Attack):
    """Projected gradient ascent of the loss over a flow, one displacement for each pixel.

        v ← momentum · v + ∂loss/∂f / mean |∂loss/∂f|
        f ← project( f + step_size · steepest(v) )

    from a random start in the ball, or from zero; in `restarts` runs. The clean image is the first candidate.

    The loss is piecewise smooth in a flow, with a kink wherever a pixel is taken from a whole position, and
    so has many local maxima between which this ascent cannot move. `FlowFrankWolfe` can, and is much stronger.

    Args:
      model: as `Attack`.
      epsilon: the radius of the ball, in pixels.
      steps: gradient steps in each run.
      step_size: in pixels; `None` for 2.5 · epsilon / steps.
      random_start: whether a run starts at a uniform draw from the ball; else at zero.
      restarts: how many runs; several need a random start.
      momentum: how much of the last direction a step keeps; 0 for none.
      step_decay: how the step size falls to zero over a run: `"constant"` (it does not), `"linear"` or
        `"cosine"`.
      norm: `"linf"`: every component of every displacement is at most ε; `"pixel_l2"`: every displacement is
        at most ε long; `"l2"`: the flow as one vector is at most ε long.
      control_points, smoothing: of a smooth flow; see `perturbations.SmoothFlow`. Not with `"l2"`.
      lattice: the warp's derivative at integer positions; see `ops.warp`. The central rule is the direction
        in which the loss rises most, where the two sides differ.
      **options: `loss`, `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, for the
    method; Dong et al., "Boosting adversarial attacks with momentum", 2018, for the momentum; Xia and Li, 2021,
    for flows (see `from_paper`).
    """

    def __init__(
        self,
        model,
        epsilon,
        steps=20,
        step_size=None,
        *,
        random_start=True,
        restarts=1,
        momentum=0.0,
        step_decay="constant",
        norm="linf",
        control_points=None,
        smoothing=0.0,
        lattice="central",
        **options,
    ):
        super().__init__(model, **options)
        self.steps = expect_positive_integer("steps", steps)
        self.random_start = bool(random_start)
        self.restarts = expect_restarts(restarts, self.random_start)
        self.momentum = expect_not_negative("momentum", momentum)
        self.step_decay = expect_one_of("step_decay", step_decay, STEP_DECAYS)
        self.norm = norm
        self.ball = balls.get(norm, epsilon)
        self.step_size = step_size
        step_size = 2.5 * self.ball.epsilon / self.steps if step_size is None else step_size
        self._step = balls.get(norm, expect_not_negative("step_size", step_size))
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)
        self.control_points = control_points
        self.smoothing = smoothing
        smooth = control_points is not None or smoothing != 0
        if smooth and norm == "l2":
            raise ValueError("Expected `norm` to be 'linf' or 'pixel_l2' for a smooth flow. Received 'l2'.")
        self._perturbation = SmoothFlow(control_points, smoothing, lattice) if smooth else Flow(lattice)

    @classmethod
    def from_paper(cls, model, image_size, epsilon=0.01, steps=100, **options):
        """The authors' multi-step attack: `steps` sign steps of ε / steps, from zero.

        Args:
          model: as `Attack`.
          image_size: height and width of the images, in pixels.
          epsilon: in normalized [-1, 1] coordinates.
          steps: the authors' K.
          **options: as `FlowPGD`.

        Two things differ: the best iterate is kept (theirs is the last), and outside the image lies its
        nearest edge pixel (theirs is black).

        Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients",
        2021, and its authors' published code.
        """
        radius = pixels_from_normalized(epsilon, image_size)
        setting = {"random_start": False, "lattice": "forward", **options}
        return cls(model, radius, steps, radius / expect_positive_integer("steps", steps), **setting)

    @property
    def perturbation(self):
        return self._perturbation

    def search(self, examples, clean, seed):
        def run(restart, best):
            return restart + 1, self._ascend(examples, random_or_zero_start(self, examples, seed, restart), best)

        _, best = tf.while_loop(lambda restart, best: restart < self.restarts, run, (0, clean), parallel_iterations=1)
        return best

    def _ascend(self, examples, start, best):
        """One run; its last iterate is judged too."""

        def step(count, examples, state):
            flow, velocity = state
            candidate, gradient = self.judge_and_differentiate(examples, flow)
            velocity = add_momentum(velocity, gradient, self.momentum) if self.momentum else gradient
            ascent = tf.cast(step_scale(self.step_decay, count, self.steps), flow.dtype)
            ascent *= self._step.steepest_ascent(velocity)
            return candidate, (self.ball.project(flow + ascent), velocity)

        best, (flow, _) = self.iterate(step, self.steps, examples, best, (start, tf.zeros_like(start)))
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
            "control_points": self.control_points,
            "smoothing": self.smoothing,
            "lattice": self.lattice,
        }

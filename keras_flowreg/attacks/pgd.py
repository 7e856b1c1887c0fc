"""Projected gradient ascent inside a norm ball."""

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack, keep_better
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowPGD(Attack):
    """Projected gradient ascent of the loss over a flow, one displacement for each pixel.

        f ← project( f + step_size · steepest( ∂loss/∂f ) )

    from a random start in the ball, or from zero; in `restarts` runs. Each example keeps its own best
    iterate: a misclassified one before any other, then the one with the highest loss; the clean image is the
    first candidate.

    Args:
      model: as `Attack`.
      epsilon: the radius of the ball, in pixels.
      steps: gradient steps in each run.
      step_size: in pixels; `None` for 2.5 · epsilon / steps.
      random_start: whether a run starts at a uniform draw from the ball; else at zero.
      restarts: how many runs; several need a random start.
      norm: `"linf"`: every component of every displacement is at most ε; `"pixel_l2"`: every displacement is
        at most ε long; `"l2"`: the flow as one vector is at most ε long.
      lattice: the warp's derivative at integer positions; see `ops.warp`. The central rule is the direction
        in which the loss rises most, where the two sides differ.
      **options: `loss`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, for the
    method; Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021, for
    flows: theirs is `epsilon=pixels_from_normalized(0.01, 32), steps=100, step_size=epsilon / 100,
    random_start=False`, and returns the last iterate.
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
        norm="linf",
        lattice="central",
        **options,
    ):
        super().__init__(model, **options)
        self.steps = expect_positive_integer("steps", steps)
        self.restarts = expect_positive_integer("restarts", restarts)
        self.random_start = bool(random_start)
        if self.restarts > 1 and not self.random_start:
            raise ValueError("Expected `random_start=True` for several restarts. Received False: all would be alike.")
        self.norm = norm
        self.ball = balls.get(norm, epsilon)
        step_size = 2.5 * self.ball.epsilon / self.steps if step_size is None else step_size
        self.step = balls.get(norm, expect_not_negative("step_size", step_size))
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)

    @property
    def perturbation(self):
        return Flow(self.lattice)

    def search(self, images, labels, seed):
        clean = self.judge(images, labels, self.perturbation.identity(images))

        def run(restart, best):
            last, best = self._ascend(images, labels, self._start(images, seed, restart), best)
            return restart + 1, keep_better(best, self.judge(images, labels, last))

        _, best = tf.while_loop(lambda restart, best: restart < self.restarts, run, (0, clean), parallel_iterations=1)
        return best.parameters

    def _start(self, images, seed, restart):
        identity = self.perturbation.identity(images)
        if not self.random_start:
            return identity
        seed = random.fold_in(seed, restart)
        return tf.cast(self.ball.sample(tf.shape(identity), seed), images.dtype)

    def _ascend(self, images, labels, flow, best):
        """One run: its last iterate, not judged yet, and the best candidate so far."""

        def step(count, flow, best):
            candidate, gradient = self.judge_and_differentiate(images, labels, flow)
            best = keep_better(best, candidate)
            return count + 1, self.ball.project(flow + self.step.steepest_ascent(gradient)), best

        _, flow, best = tf.while_loop(
            lambda count, flow, best: count < self.steps, step, (0, flow, best), parallel_iterations=1
        )
        return flow, best

    def get_config(self):
        return {
            **super().get_config(),
            "epsilon": self.ball.epsilon,
            "steps": self.steps,
            "step_size": self.step.epsilon,
            "random_start": self.random_start,
            "restarts": self.restarts,
            "norm": self.norm,
            "lattice": self.lattice,
        }

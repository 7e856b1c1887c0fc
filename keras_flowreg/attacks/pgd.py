"""Projected gradient ascent inside a norm ball, over any perturbation."""

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.ascent import add_momentum, best_of_restarts, expect_ascent, step_scale
from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.search import iterate, query_once
from keras_flowreg.ops.validation import expect_instance
from keras_flowreg.perturbations import Perturbation


@keras.saving.register_keras_serializable(package="keras_flowreg")
class PGD(Attack):
    """Projected gradient ascent of the loss over the parameters θ of a perturbation.

        v ← momentum · v + ∂loss/∂θ / mean |∂loss/∂θ|
        θ ← project( θ + step_size · steepest(v) )

    from a random start in the ball, or from zero; in `restarts` runs. The clean image is the first candidate.

    ```python
    rotations = fr.attacks.PGD(fr.perturbations.Affine(), epsilon=3.0, steps=5, norm="l2")
    adversarial_images = rotations(images, labels, model=model)
    ```

    Args:
      perturbation: the `Perturbation` T(x; θ).
      epsilon: the radius of the ball, in θ's units.
      steps: gradient steps in each run.
      step_size: in θ's units; `None` for 2.5 · epsilon / steps.
      start: `"random"`: a run starts at a uniform draw from the ball; `"zero"`: at the identity.
      restarts: how many runs; several need a random start.
      momentum: how much of the last direction a step keeps; 0 for none.
      step_decay: how the step size falls to zero over a run: `"constant"` (it does not), `"linear"` or
        `"cosine"`.
      norm: `"linf"`: every component of θ is at most ε; `"pixel_l2"`: every vector on θ's last axis is at most
        ε long; `"l2"`: θ as one vector is at most ε long.
      loss, targeted, value_range, seed, jit_compile, name: as `Attack`.

    Raises:
      ValueError, TypeError: if an option is out of its range or unknown.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, for the
    method; Dong et al., "Boosting adversarial attacks with momentum", 2018, for the momentum.
    """

    def __init__(
        self,
        perturbation,
        epsilon,
        *,
        steps=20,
        step_size=None,
        start="random",
        restarts=1,
        momentum=0.0,
        step_decay="constant",
        norm="linf",
        loss=None,
        targeted=False,
        value_range=(0.0, 1.0),
        seed=0,
        jit_compile="auto",
        name=None,
    ):
        super().__init__(
            loss=loss, targeted=targeted, value_range=value_range, seed=seed, jit_compile=jit_compile, name=name
        )
        self.perturbation = expect_instance("perturbation", perturbation, Perturbation)
        self.norm = norm
        self.epsilon = balls.get(norm, epsilon).epsilon
        ascent = {"steps": steps, "start": start, "restarts": restarts, "momentum": momentum, "step_decay": step_decay}
        expect_ascent(self, step_size=step_size, **ascent)

    @property
    def ball(self):
        return balls.get(self.norm, self.epsilon)

    def search(self, objective, examples, clean, seed):
        return best_of_restarts(self, self._ascend, objective, examples, clean, seed)

    def _ascend(self, objective, examples, start, best):
        """One run; its last iterate is queried too."""
        step_size = 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size
        step_ball = balls.get(self.norm, step_size)

        def step(count, examples, state):
            parameters, velocity = state
            candidate, gradient = objective.query_with_gradient(examples, parameters)
            velocity = add_momentum(velocity, gradient, self.momentum) if self.momentum else gradient
            ascent = tf.cast(step_scale(self.step_decay, count, self.steps), parameters.dtype)
            ascent *= step_ball.steepest_ascent(velocity)
            return candidate, (self.ball.project(parameters + ascent), velocity)

        best, (parameters, _) = iterate(step, self.steps, examples, best, (start, tf.zeros_like(start)))
        return query_once(objective, examples, best, parameters)

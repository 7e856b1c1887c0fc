"""Projected gradient ascent inside a norm ball, over any perturbation."""

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
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.perturbations import Perturbation


@keras.saving.register_keras_serializable(package="keras_flowreg")
class PGD(Attack):
    """Projected gradient ascent of the loss over the parameters θ of a perturbation.

        v ← momentum · v + ∂loss/∂θ / mean |∂loss/∂θ|
        θ ← project( θ + step_size · steepest(v) )

    from a random start in the ball, or from zero; in `restarts` runs. The clean image is the first candidate.

    Args:
      model: as `Attack`.
      perturbation: the `Perturbation` T(x; θ).
      epsilon: the radius of the ball, in θ's units.
      steps: gradient steps in each run.
      step_size: in θ's units; `None` for 2.5 · epsilon / steps.
      random_start: whether a run starts at a uniform draw from the ball; else at zero.
      restarts: how many runs; several need a random start.
      momentum: how much of the last direction a step keeps; 0 for none.
      step_decay: how the step size falls to zero over a run: `"constant"` (it does not), `"linear"` or
        `"cosine"`.
      norm: `"linf"`: every component of θ is at most ε; `"pixel_l2"`: every vector on θ's last axis is at most
        ε long; `"l2"`: θ as one vector is at most ε long.
      **options: `loss`, `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, for the
    method; Dong et al., "Boosting adversarial attacks with momentum", 2018, for the momentum.
    """

    def __init__(
        self,
        model,
        perturbation,
        epsilon,
        steps=20,
        step_size=None,
        *,
        random_start=True,
        restarts=1,
        momentum=0.0,
        step_decay="constant",
        norm="linf",
        **options,
    ):
        super().__init__(model, **options)
        if not isinstance(perturbation, Perturbation):
            raise TypeError(f"Expected `perturbation` to be a Perturbation. Received {perturbation!r}.")
        self._perturbation = perturbation
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

    @property
    def perturbation(self):
        return self._perturbation

    def search(self, examples, clean, seed):
        return best_of_restarts(self, self._ascend, examples, clean, seed)

    def _ascend(self, examples, start, best):
        """One run; its last iterate is judged too."""

        def step(count, examples, state):
            parameters, velocity = state
            candidate, gradient = self.judge_and_differentiate(examples, parameters)
            velocity = add_momentum(velocity, gradient, self.momentum) if self.momentum else gradient
            ascent = tf.cast(step_scale(self.step_decay, count, self.steps), parameters.dtype)
            ascent *= self._step.steepest_ascent(velocity)
            return candidate, (self.ball.project(parameters + ascent), velocity)

        best, (parameters, _) = self.iterate(step, self.steps, examples, best, (start, tf.zeros_like(start)))
        return self.consider(examples, best, parameters)

    def options(self):
        return {
            **super().options(),
            "perturbation": self._perturbation,
            "epsilon": self.ball.epsilon,
            "steps": self.steps,
            "step_size": self.step_size,
            "random_start": self.random_start,
            "restarts": self.restarts,
            "momentum": self.momentum,
            "step_decay": self.step_decay,
            "norm": self.norm,
        }

    def settings(self):
        settings = super().settings()
        if "perturbation" in settings:
            perturbation = settings["perturbation"]
            settings["perturbation"] = {"kind": type(perturbation).__name__, **perturbation.get_config()}
        return settings

    def get_config(self):
        config = super().get_config()
        if "perturbation" in config:
            config["perturbation"] = keras.saving.serialize_keras_object(config["perturbation"])
        return config

    @classmethod
    def from_config(cls, config):
        if "perturbation" in config:
            perturbation = keras.saving.deserialize_keras_object(config["perturbation"])
            config = {**config, "perturbation": perturbation}
        return super().from_config(config)

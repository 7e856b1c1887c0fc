"""Ascent along gradients that are estimated from losses alone."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.ascent import STEP_DECAYS, step_scale
from keras_flowreg.attacks.ball_attack import BallAttack
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate, loop, query_once
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_one_of, expect_positive, expect_positive_integer
from keras_flowreg.perturbations import Flow, Perturbation
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowSPSA(BallAttack):
    """Projected ascent of the loss over a flow, along a gradient estimated from pairs of losses.

        g = mean over samples of (loss(f + δ s) - loss(f - δ s)) / (2 δ) · s,    s = ±1 in every component
        f ← project( f + step_size · steepest(g) )

    It starts at zero. It needs no gradient of the model, and so is not misled by one that is masked.

    ```python
    attack = fr.attacks.FlowSPSA(epsilon=0.4, queries=100, samples=4)
    adversarial_images = attack(images, labels, model=model)
    ```

    Args:
      epsilon: the radius of the ball, in pixels.
      queries: how many queries an example may take at most, with that of the clean image.
      samples: how many pairs of losses an estimate is made from.
      delta: how far the pairs lie from f, in pixels in each component. They may lie outside the ball, because they are
        only used to estimate a slope.
      step_size: the size of the first step, in pixels; `None` for ε / 2.
      step_decay: how the step size falls to zero over the run: `"linear"` or `"cosine"`. With `"constant"` it does not.
      norm: `"linf"`, `"pixel_l2"` or `"l2"`; see `FlowPGD`.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Uesato et al., "Adversarial risk and the dangers of evaluating against weak attacks", 2018, who take steps
    with Adam; Spall, 1992, for the estimate.
    """

    number_options = ("epsilon", "step_size")
    needs_gradient = False

    def __init__(
        self,
        epsilon: float,
        *,
        queries: int = 1000,
        samples: int = 16,
        delta: float = 0.05,
        step_size: Optional[float] = None,
        step_decay: str = "linear",
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
        self.queries = expect_positive_integer("queries", queries)
        self.samples = expect_positive_integer("samples", samples)
        if self._steps < 1:
            raise ValueError(
                f"Expected `queries` to be at least {3 + 2 * self.samples}, for one step of {self.samples} samples. "
                f"Received {queries}."
            )
        self.delta = expect_positive("delta", delta)
        self.step_size = None if step_size is None else expect_positive("step_size", step_size)
        self.step_decay = expect_one_of("step_decay", step_decay, STEP_DECAYS)
        self.norm = norm
        self.epsilon = balls.get(norm, epsilon).epsilon

    @property
    def perturbation(self) -> Perturbation:
        return Flow()

    @property
    def _steps(self):
        # The clean image and the last iterate are queried too.
        return (self.queries - 2) // (2 * self.samples + 1)

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        step_ball = balls.get(self.norm, self.epsilon / 2 if self.step_size is None else self.step_size)

        def step(count, examples, flow):
            candidate = objective.query(examples, flow)
            candidate = candidate._replace(queries=candidate.queries + 2 * self.samples)
            gradient = self._estimate_gradient(objective, examples, flow, random.fold_in(seed, count))
            ascent = tf.cast(step_scale(self.step_decay, count, self._steps), flow.dtype)
            return candidate, self.ball.project(flow + ascent * step_ball.steepest_ascent(gradient))

        best, flow = iterate(step, self._steps, examples, clean, clean.parameters)
        return query_once(objective, examples, best, flow)

    def _estimate_gradient(self, objective, examples, flow, seed):
        def add_sample(sample, total):
            draw_seed = random.fold_in(seed, sample)
            signs = tf.sign(examples.draw_like(flow, lambda shape: random.uniform(shape, draw_seed, -1.0, 1.0)))
            above = objective.query(examples, flow + self.delta * signs).loss
            below = objective.query(examples, flow - self.delta * signs).loss
            slope = tf.cast(above - below, flow.dtype) / (2 * self.delta)
            return sample + 1, total + slope[:, tf.newaxis, tf.newaxis, tf.newaxis] * signs

        total = loop(lambda sample, total: sample < self.samples, add_sample, (0, tf.zeros_like(flow)))[1]
        return total / self.samples

"""Ascent along gradients that are estimated from losses alone."""

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.steps import STEP_DECAYS, step_scale
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_one_of, expect_positive, expect_positive_integer
from keras_flowreg.perturbations import Flow


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowSPSA(Attack):
    """Projected ascent of the loss over a flow, along a gradient estimated from pairs of losses.

        g = mean over samples of (loss(f + δ s) - loss(f - δ s)) / (2 δ) · s,    s = ±1 in every component
        f ← project( f + step_size · steepest(g) )

    from zero. It needs no gradient of the model, and so is not fooled by one that is masked.

    Args:
      model: as `Attack`.
      epsilon: the radius of the ball, in pixels.
      queries: how many runs of the model an example may take, at most; the clean one included.
      samples: pairs of losses in each estimate.
      delta: how far the pairs lie from f, in pixels in each component. They may lie outside the ball, but no
        more than that is done with them than to estimate a slope.
      step_size: in pixels; `None` for ε / 2.
      step_decay: how the step size falls over the run: `"constant"`, `"linear"` or `"cosine"`.
      norm: `"linf"`, `"pixel_l2"` or `"l2"`; see `FlowPGD`.
      **options: `loss`, `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Uesato et al., "Adversarial risk and the dangers of evaluating against weak attacks", 2018;
    Spall, 1992, for the estimate. Theirs steps by Adam.
    """

    uses_gradients = False

    def __init__(
        self,
        model,
        epsilon,
        queries=1000,
        *,
        samples=16,
        delta=0.05,
        step_size=None,
        step_decay="linear",
        norm="linf",
        **options,
    ):
        super().__init__(model, **options)
        self.queries = expect_positive_integer("queries", queries)
        self.samples = expect_positive_integer("samples", samples)
        if self._steps < 1:
            raise ValueError(
                f"Expected `queries` to be at least {3 + 2 * self.samples}, for one step of {self.samples} samples. "
                f"Received {queries}."
            )
        self.delta = expect_positive("delta", delta)
        self.norm = norm
        self.ball = balls.get(norm, epsilon)
        self.step_size = step_size if step_size is None else expect_positive("step_size", step_size)
        self._step = balls.get(norm, self.ball.epsilon / 2 if step_size is None else step_size)
        self.step_decay = expect_one_of("step_decay", step_decay, STEP_DECAYS)

    @property
    def perturbation(self):
        return Flow()

    @property
    def _steps(self):
        # The clean image and the last iterate are judged too.
        return (self.queries - 2) // (2 * self.samples + 1)

    def search(self, examples, clean, seed):
        def step(count, examples, flow):
            candidate = self.judge(examples, flow)
            candidate = candidate._replace(queries=candidate.queries + 2 * self.samples)
            gradient = self._estimate_gradient(examples, flow, random.fold_in(seed, count))
            ascent = tf.cast(step_scale(self.step_decay, count, self._steps), flow.dtype)
            return candidate, self.ball.project(flow + ascent * self._step.steepest_ascent(gradient))

        best, flow = self.iterate(step, self._steps, examples, clean, clean.parameters)
        return self.consider(examples, best, flow)

    def _estimate_gradient(self, examples, flow, seed):
        def add_sample(sample, total):
            signs = self._signs(examples, flow, random.fold_in(seed, sample))
            above = self.judge(examples, flow + self.delta * signs).loss
            below = self.judge(examples, flow - self.delta * signs).loss
            slope = (above - below) / (2 * self.delta)
            return sample + 1, total + slope[:, tf.newaxis, tf.newaxis, tf.newaxis] * signs

        _, total = tf.while_loop(
            lambda sample, total: sample < self.samples, add_sample, (0, tf.zeros_like(flow)), parallel_iterations=1
        )
        return total / self.samples

    def _signs(self, examples, flow, seed):
        def sample(batch):
            return tf.sign(random.uniform(tf.concat([[batch], tf.shape(flow)[1:]], 0), seed, -1.0, 1.0))

        return tf.ensure_shape(tf.cast(examples.draw(sample), flow.dtype), flow.shape)

    def options(self):
        return {
            **super().options(),
            "epsilon": self.ball.epsilon,
            "queries": self.queries,
            "samples": self.samples,
            "delta": self.delta,
            "step_size": self.step_size,
            "step_decay": self.step_decay,
            "norm": self.norm,
        }

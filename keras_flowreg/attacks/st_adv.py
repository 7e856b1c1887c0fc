"""Smooth flows of no fixed size, found by gradient descent on a margin and a flow's roughness."""

import keras
import tensorflow as tf

from keras_flowreg.attacks.base import Attack, select
from keras_flowreg.ops.flows import flow_smoothness_loss
from keras_flowreg.ops.losses import split_predictions
from keras_flowreg.ops.validation import expect_one_of, expect_positive, expect_positive_integer
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow

_FIRST_DECAY, _SECOND_DECAY, _SMALL = 0.9, 0.999, 1e-8  # Adam's


@keras.saving.register_keras_serializable(package="keras_flowreg")
class StAdv(Attack):
    """Descends, from zero and with Adam, for each example

        max(z_label - max_{k ≠ label} z_k, 0) + τ · L_flow(f)

    where L_flow is `ops.flow_smoothness_loss`. Flows are not bounded. A descent ends at the first flow that
    breaks its example, and there is one for each of several τ, halving a logarithmic range: up after a
    success, down after a failure. The smoothest flow that breaks an example is returned.

    Args:
      model: as `Attack`.
      steps: gradient steps for each τ.
      learning_rate: Adam's, in pixels.
      smoothness_range: the least and the greatest τ.
      searches: how many values of τ are tried.
      lattice: the warp's derivative at integer positions; see `ops.warp`.
      loss: of what is returned, `"margin"` unless another is given: the descent is the margin's in any case.
      **options: `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Xiao et al., "Spatially transformed adversarial examples", 2018, whose τ is 0.05, which is near
    the first here. They descend with L-BFGS, for one τ.
    """

    def __init__(
        self,
        model,
        *,
        steps=100,
        learning_rate=0.05,
        smoothness_range=(0.0025, 1.0),
        searches=5,
        lattice="central",
        loss="margin",
        **options,
    ):
        super().__init__(model, loss=loss, **options)
        self.steps = expect_positive_integer("steps", steps)
        self.learning_rate = expect_positive("learning_rate", learning_rate)
        self.smoothness_range = tuple(expect_positive("smoothness_range", bound) for bound in smoothness_range)
        if len(self.smoothness_range) != 2 or self.smoothness_range[0] > self.smoothness_range[1]:
            raise ValueError(f"Expected `smoothness_range` to be (least, greatest). Received {smoothness_range!r}.")
        self.searches = expect_positive_integer("searches", searches)
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)

    @property
    def perturbation(self):
        return Flow(self.lattice)

    def search(self, examples, clean, seed):
        def attempt(count, best, low, high):
            middle = (low + high) / 2
            found = self._descend(examples, clean, tf.exp(middle))
            best = _keep_smoother(best, found._replace(queries=best.queries + found.queries - clean.queries))
            return count + 1, best, tf.where(found.success, middle, low), tf.where(found.success, high, middle)

        least, greatest = (tf.math.log(tf.fill(tf.shape(clean.loss), bound)) for bound in self.smoothness_range)
        state = tf.while_loop(
            lambda count, *_: count < self.searches, attempt, (0, clean, least, greatest), parallel_iterations=1
        )
        return state[1]

    def _descend(self, examples, clean, smoothness_weight):
        """One descent; its last flow is judged too."""

        def step(count, examples, state):
            flow, first, second, weight = state
            candidate, gradient = self._judge_and_differentiate_objective(examples, flow, weight)
            first = _FIRST_DECAY * first + (1 - _FIRST_DECAY) * gradient
            second = _SECOND_DECAY * second + (1 - _SECOND_DECAY) * tf.square(gradient)
            move = _adam_move(first, second, tf.cast(count + 1, flow.dtype))
            return candidate, (flow - self.learning_rate * move, first, second, weight)

        start = self.perturbation.identity(examples.images)
        weight = tf.cast(smoothness_weight, start.dtype)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        state = (start, tf.zeros_like(start), tf.zeros_like(start), weight)
        best, (flow, *_) = self.iterate(step, self.steps, examples, clean, state)
        return self.consider(examples, best, flow)

    def _judge_and_differentiate_objective(self, examples, flow, smoothness_weight):
        """The `Candidate` for each flow, and the objective's derivative with respect to it."""
        images, pull_back = self.perturbation.linearize(examples.images, flow)
        with tf.GradientTape() as tape:
            tape.watch(images)
            predictions = self.model(tf.clip_by_value(images, *self.value_range), training=False)
            label, others = split_predictions(examples.labels, tf.cast(predictions, images.dtype))
            lead = label - tf.reduce_max(others, axis=1)
            hinge = tf.nn.relu(-lead if self.targeted else lead)
        candidate = self.candidate(flow, *self.assess(predictions, examples.labels))
        with tf.GradientTape() as flow_tape:
            flow_tape.watch(flow)
            smoothness = flow_smoothness_loss(flow)
        gradient = pull_back(tape.gradient(hinge, images))
        return candidate, gradient + smoothness_weight * flow_tape.gradient(smoothness, flow)

    def options(self):
        return {
            **super().options(),
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "smoothness_range": self.smoothness_range,
            "searches": self.searches,
            "lattice": self.lattice,
        }


def _adam_move(first, second, step):
    """Adam's step for a learning rate of 1: Kingma and Ba, "Adam", 2015."""
    return first / (1 - _FIRST_DECAY**step) / (tf.sqrt(second / (1 - _SECOND_DECAY**step)) + _SMALL)


def _keep_smoother(best, new):
    """Example by example: a success before any other, then the smoother of successes, else the higher loss."""
    smoother = flow_smoothness_loss(new.parameters) < flow_smoothness_loss(best.parameters)
    preferred = tf.where(new.success, smoother, new.loss > best.loss)
    better = tf.where(new.success == best.success, preferred, new.success)
    return select(better, new, best)._replace(queries=new.queries)

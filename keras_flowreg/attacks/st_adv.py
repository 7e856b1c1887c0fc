"""Smooth flows of no fixed size, found by gradient descent on a margin and a flow's roughness."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate, loop, query_once, select
from keras_flowreg.ops.flows import flow_smoothness_loss
from keras_flowreg.ops.labels import split_predictions
from keras_flowreg.ops.validation import expect_one_of, expect_positive, expect_positive_integer
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow, Perturbation
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange

_FIRST_DECAY, _SECOND_DECAY, _SMALL = 0.9, 0.999, 1e-8  # Adam's


@keras.saving.register_keras_serializable(package="keras_flowreg")
class StAdv(Attack):
    """Searches for the smoothest flow that fools the model. Flows are not bounded.

        max(z_label - max_{k ≠ label} z_k, 0) + τ · L_flow(f)

    is descended with Adam, from zero, where L_flow is `ops.flow_smoothness_loss`. A descent ends at the first flow that
    fools the model. Several τ are tried, by halving a logarithmic range: a larger τ after a success, a smaller one after a
    failure.

    ```python
    adversarial_images = fr.attacks.StAdv(steps=10, searches=2)(images, labels, model=model)
    ```

    Args:
      steps: how many gradient steps there are for each τ.
      learning_rate: the learning rate of Adam, in pixels.
      smoothness_range: the least and the greatest τ.
      searches: how many values of τ are tried.
      lattice: the warp's derivative at integer positions: `"forward"`, `"backward"` or `"central"`; see `ops.warp`.
      loss: the loss that is reported. The descent follows the margin in any case.
      targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Xiao et al., "Spatially transformed adversarial examples", 2018. They descend with L-BFGS, for one τ, 0.05,
    which is near the first one here.
    """

    def __init__(
        self,
        *,
        steps: int = 100,
        learning_rate: float = 0.05,
        smoothness_range: tuple[float, float] = (0.0025, 1.0),
        searches: int = 5,
        lattice: str = "central",
        loss: Optional[Loss] = "margin",
        targeted: bool = False,
        value_range: ValueRange = (0.0, 1.0),
        seed: int = 0,
        jit_compile: JitCompile = "auto",
        name: Optional[str] = None,
    ):
        super().__init__(
            loss=loss, targeted=targeted, value_range=value_range, seed=seed, jit_compile=jit_compile, name=name
        )
        self.steps = expect_positive_integer("steps", steps)
        self.learning_rate = expect_positive("learning_rate", learning_rate)
        self.smoothness_range = _expect_range("smoothness_range", smoothness_range)
        self.searches = expect_positive_integer("searches", searches)
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)

    @property
    def perturbation(self) -> Perturbation:
        return Flow(self.lattice)

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        def attempt(count, best, low, high):
            middle = (low + high) / 2
            found = self._descend(objective, examples, clean, tf.exp(middle))
            best = _keep_smoother(best, found._replace(queries=best.queries + found.queries - clean.queries))
            return count + 1, best, tf.where(found.success, middle, low), tf.where(found.success, high, middle)

        least, greatest = (tf.math.log(tf.fill(tf.shape(clean.loss), bound)) for bound in self.smoothness_range)
        return loop(lambda count, *_: count < self.searches, attempt, (0, clean, least, greatest))[1]

    def _descend(self, objective, examples, clean, smoothness_weight):
        """One descent; its last flow is queried too."""

        def step(count, examples, state):
            flow, first, second, weight = state
            candidate, gradient = self._query_and_differentiate(objective, examples, flow, weight)
            first = _FIRST_DECAY * first + (1 - _FIRST_DECAY) * gradient
            second = _SECOND_DECAY * second + (1 - _SECOND_DECAY) * tf.square(gradient)
            move = _adam_move(first, second, tf.cast(count + 1, flow.dtype))
            return candidate, (flow - self.learning_rate * move, first, second, weight)

        start = objective.perturbation.identity(examples.images)
        weight = tf.cast(smoothness_weight, start.dtype)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        state = (start, tf.zeros_like(start), tf.zeros_like(start), weight)
        best, (flow, *_) = iterate(step, self.steps, examples, clean, state)
        return query_once(objective, examples, best, flow)

    def _query_and_differentiate(self, objective, examples, flow, smoothness_weight):
        """The `Candidate` for each flow, and the derivative of what is descended with respect to it."""
        candidate, _, (gradient,) = objective.query_with((type(self), self.targeted), self._hinge, examples, flow)
        with tf.GradientTape() as tape:
            tape.watch(flow)
            smoothness = flow_smoothness_loss(flow)
        return candidate, gradient + smoothness_weight * tape.gradient(smoothness, flow)

    def _hinge(self, predictions, labels):
        """max(z_label - max_{k ≠ label} z_k, 0), or the other way round for a target."""
        label, others = split_predictions(labels, predictions)
        lead = label - tf.reduce_max(others, axis=1)
        return [tf.nn.relu(-lead if self.targeted else lead)]


def _expect_range(name, bounds):
    """Checks (least, greatest), two positive numbers."""
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise ValueError(f"Expected `{name}` to be (least, greatest). Received {bounds!r}.")
    least, greatest = (expect_positive(name, bound) for bound in bounds)
    if least > greatest:
        raise ValueError(f"Expected `{name}` to be (least, greatest). Received {bounds!r}.")
    return least, greatest


def _adam_move(first, second, step):
    """Adam's step for a learning rate of 1: Kingma and Ba, "Adam", 2015."""
    return first / (1 - _FIRST_DECAY**step) / (tf.sqrt(second / (1 - _SECOND_DECAY**step)) + _SMALL)


def _keep_smoother(best, new):
    """Example by example: a success before any other, then the smoother of successes, else the higher loss."""
    smoother = flow_smoothness_loss(new.parameters) < flow_smoothness_loss(best.parameters)
    preferred = tf.where(new.success, smoother, new.loss > best.loss)
    better = tf.where(new.success == best.success, preferred, new.success)
    return select(better, new, best)._replace(queries=new.queries)

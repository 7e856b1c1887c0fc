"""Random search over square patches of a flow."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.ball_attack import BallAttack
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate, select
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_fraction, expect_one_of, expect_positive, expect_positive_integer
from keras_flowreg.perturbations import Flow, Perturbation
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange

# After these fractions of the queries, the patches' area is halved.
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowSquare(BallAttack):
    """Random search: each query moves one square patch of the image as far as allowed, and keeps what helps.

    The flow starts as columns of random displacements on the ball's edge. A query draws the place of a square, and one
    displacement on the edge for all of it. The change is kept if the loss rises. The squares shrink on a fixed schedule.
    The search needs no gradient of the model, and so is not misled by one that is masked.

    ```python
    adversarial_images = fr.attacks.FlowSquare(epsilon=0.4, queries=50)(images, labels, model=model)
    ```

    Args:
      epsilon: the radius of the ball, in pixels.
      queries: how many queries an example may take at most, with that of the clean image.
      first_area: how much of the image the first squares cover, above 0 and at most 1.
      norm: `"linf"` or `"pixel_l2"`; see `FlowPGD`.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random
    search", 2020, for additive noise; here a patch is displaced instead.
    """

    number_options = ("epsilon",)
    needs_gradient = False

    def __init__(
        self,
        epsilon: float,
        *,
        queries: int = 1000,
        first_area: float = 0.8,
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
        self.first_area = expect_fraction("first_area", expect_positive("first_area", first_area))
        self.norm = expect_one_of("norm", norm, balls.PER_PIXEL_NORMS)
        self.epsilon = balls.get(norm, epsilon).epsilon

    @property
    def perturbation(self) -> Perturbation:
        return Flow()

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        shape = tf.shape(examples.images)
        stripes = self._edge_draws(examples, tf.stack([1, shape[2], 2]), random.fold_in(seed, 0))
        stripes = tf.broadcast_to(stripes, tf.stack([shape[0], shape[1], shape[2], 2]))
        start = tf.ensure_shape(stripes, clean.parameters.shape)
        worst = tf.fill(tf.shape(clean.loss), clean.loss.dtype.min)

        def step(count, examples, state):
            flow, loss = state
            square = self._square(examples, count, random.fold_in(seed, count))
            displacement = self._edge_draws(examples, [1, 1, 2], random.fold_in(seed, self.queries + count))
            # The first query is that of the stripes.
            proposal = tf.where(square & (count > 0), displacement, flow)
            candidate = objective.query(examples, proposal)
            return candidate, select(candidate.loss > loss, (proposal, candidate.loss), (flow, loss))

        return iterate(step, self.queries - 1, examples, clean, (start, worst))[0]

    def _edge_draws(self, examples, shape, seed):
        """Random displacements on the ball's edge: `[batch, *shape]`, the last axis (dy, dx)."""

        def sample(batch):
            return self.ball.steepest_ascent(random.normal(tf.concat([[batch], shape], 0), seed))

        return tf.cast(examples.draw(sample), examples.images.dtype)

    def _square(self, examples, count, seed):
        """Which pixels the square of a query covers: bool `[batch, height, width, 1]`."""
        height, width = tf.shape(examples.images)[1], tf.shape(examples.images)[2]
        progress = tf.cast(count, tf.float32) / self.queries
        halvings = tf.reduce_sum(tf.cast(progress > tf.constant(_HALVINGS), tf.float32))
        area = self.first_area * 0.5**halvings * tf.cast(height * width, tf.float32)
        side = tf.clip_by_value(tf.cast(tf.round(tf.sqrt(area)), tf.int32), 1, tf.minimum(height, width))
        corner = examples.draw(lambda batch: random.uniform([batch, 2], seed))

        def covered(size, place):
            first = tf.cast(place * tf.cast(size - side + 1, tf.float32), tf.int32)[:, tf.newaxis]
            return (tf.range(size) >= first) & (tf.range(size) < first + side)

        rows, columns = covered(height, corner[:, 0]), covered(width, corner[:, 1])
        return (rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :])[..., tf.newaxis]

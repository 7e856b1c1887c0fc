"""Ascent over one pixel at a time: where no step along a gradient helps any more."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg.attacks.ascent import best_of_restarts
from keras_flowreg.attacks.frank_wolfe import FlowFrankWolfe
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate, loop, select
from keras_flowreg.ops import random
from keras_flowreg.ops.linear_maximization import maximizing_flow
from keras_flowreg.ops.validation import expect_positive_integer
from keras_flowreg.types import FlowField, JitCompile, Loss, Seed, ValueRange


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowCoordinateAscent(FlowFrankWolfe):
    """Moves one pixel at a time, from one end of what it can become to the other, and keeps what raises the loss.

    It goes on where `FlowFrankWolfe` ends: all pixels are at an end of their reach, and the gradient at each says to stay.
    But a gradient says nothing of a whole move across the reach, over the kinks of the *model*. So each sweep tries those
    moves, pixel by pixel in random order. On networks that were trained to be robust this finds flows that hundreds of
    restarts of a gradient ascent miss; it takes many more queries than one.

    ```python
    attack = fr.attacks.FlowCoordinateAscent(epsilon=0.4, steps=5, sweeps=1, pixels=20, loss="margin")
    adversarial_images = attack(images, labels, model=model)
    ```

    Args:
      epsilon: the radius of the ball, in pixels.
      sweeps: how often each pixel is tried.
      pixels: how many pixels a sweep tries at most: a random choice of those that can change. One query each.
      start: where a run starts: `"random"` for a uniform draw from the ball, `"zero"` for no flow.
      steps, step_size, restarts, momentum, step_decay, norm: see `FlowFrankWolfe`, whose ascent comes first in each run.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Moon, An and Song, "Parsimonious black-box adversarial attacks via efficient combinatorial optimization",
    2019, for a local search over the ends of a ball; there of colours, in blocks, and without a gradient's start.
    """

    def __init__(
        self,
        epsilon: float,
        *,
        sweeps: int = 4,
        pixels: int = 1000,
        steps: int = 20,
        step_size: Optional[float] = None,
        start: str = "random",
        restarts: int = 1,
        momentum: float = 0.75,
        step_decay: str = "cosine",
        norm: str = "linf",
        loss: Optional[Loss] = None,
        targeted: bool = False,
        value_range: ValueRange = (0.0, 1.0),
        seed: int = 0,
        jit_compile: JitCompile = "auto",
        name: Optional[str] = None,
    ):
        super().__init__(
            epsilon,
            steps=steps,
            step_size=step_size,
            start=start,
            restarts=restarts,
            momentum=momentum,
            step_decay=step_decay,
            norm=norm,
            loss=loss,
            targeted=targeted,
            value_range=value_range,
            seed=seed,
            jit_compile=jit_compile,
            name=name,
        )
        self.sweeps = expect_positive_integer("sweeps", sweeps)
        self.pixels = expect_positive_integer("pixels", pixels)

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        return best_of_restarts(self, self._run, objective, examples, clean, seed)

    def _run(self, objective, examples, start, best, seed):
        """One run: the ascent, and the sweeps from where it ends."""
        best, flow = self._ascend(objective, examples, start, best)
        lowest = tf.fill(tf.shape(best.loss), best.loss.dtype.min)

        def query_end(_, examples, state):
            flow, lowest = state
            candidate = objective.query(examples, flow)
            return candidate, (flow, tf.where(candidate.loss > lowest, candidate.loss, lowest))

        best, (flow, loss) = iterate(query_end, 1, examples, best, (flow, lowest))

        def sweep(count, best, flow, loss):
            return count + 1, *self._sweep(objective, examples, best, flow, loss, random.fold_in(seed, count))

        return loop(lambda count, *found: count < self.sweeps, sweep, (0, best, flow, loss))[1]

    def _sweep(self, objective, examples, best, flow, loss, seed):
        """Tries each pixel once. Takes, and returns, the flow and its loss."""
        far_end, can_change = self._far_ends(objective, examples, flow, random.fold_in(seed, 0))
        order, tries = self._order(examples, can_change, random.fold_in(seed, 1))

        def step(count, examples, state):
            flow, loss, far_end, order, tries = state
            is_tried = count < tries  # Another example may have more pixels to try.
            mask = _only(tf.gather(order, count, axis=1), flow) & is_tried[:, tf.newaxis, tf.newaxis, tf.newaxis]
            proposal = tf.where(mask, far_end, flow)
            candidate = objective.query(examples, proposal)
            flow, loss = select(candidate.loss > loss, (proposal, candidate.loss), (flow, loss))
            return candidate._replace(queries=tf.cast(is_tried, tf.int32)), (flow, loss, far_end, order, tries)

        state = flow, loss, far_end, order, tries
        best, (flow, loss, *_) = iterate(step, tf.reduce_max(tries), examples, best, state)
        return best, flow, loss

    def _far_ends(self, objective, examples, flow, seed):
        """For each pixel the displacement to one end of what it can become; and whether it can change at all.

        Of colours the ends lie along a random direction. Of the two the one is taken that is farther from where it is.
        """
        images = examples.images
        direction = 2 * examples.draw_like(images, lambda shape: random.uniform(shape, seed)) - 1
        ends, values = [], []
        for sign in (1, -1):
            end, can_change = maximizing_flow(images, sign * direction, self._displacements, self.epsilon)
            ends.append(end)
            values.append(objective.perturb(images, end))
        middle = (values[0] + values[1]) / 2
        is_before = tf.reduce_sum(direction * (middle - objective.perturb(images, flow)), axis=-1, keepdims=True) > 0
        return tf.where(is_before, *ends), can_change

    def _order(self, examples, can_change, seed):
        """Which pixels are tried, `[batch, pixels]`, in their order; and how many of them can change, `[batch]`."""
        count = tf.shape(can_change)[1] * tf.shape(can_change)[2]
        draws = examples.draw(lambda batch: random.uniform(tf.stack([batch, count]), seed))
        can_change = tf.reshape(can_change, tf.shape(draws))
        order = tf.math.top_k(tf.where(can_change, draws, -1.0), tf.minimum(count, self.pixels)).indices
        return order, tf.minimum(tf.reduce_sum(tf.cast(can_change, tf.int32), axis=1), self.pixels)


def _only(pixel: tf.Tensor, flow: FlowField) -> tf.Tensor:
    """A mask of one pixel of each example: bool `[batch, height, width, 1]`."""
    height, width = tf.shape(flow)[1], tf.shape(flow)[2]
    mask = tf.one_hot(pixel, height * width, on_value=True, off_value=False, dtype=tf.bool)
    return tf.reshape(mask, tf.stack([-1, height, width, 1]))

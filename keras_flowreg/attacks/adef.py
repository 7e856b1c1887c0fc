"""The smallest deformation: Newton steps towards the nearest decision boundary, as DeepFool's."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate, query_once
from keras_flowreg.ops.labels import split_predictions
from keras_flowreg.ops.validation import (
    expect_not_negative,
    expect_one_of,
    expect_positive,
    expect_positive_integer,
)
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import SmoothFlow
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange

_LONGEST = 1e15  # move, in pixels: its square is a number


@keras.saving.register_keras_serializable(package="keras_flowreg")
class ADef(Attack):
    """Searches for the smallest deformation that fools the model, by Newton steps to the nearest class's boundary.

        θ ← θ - (1 + overshoot) · F_k / ‖∂F_k/∂θ‖² · ∂F_k/∂θ,    F_k = z_k - z_label < 0

    for the flow f = S θ with a Gaussian S. That is the least-squares solution of F_k + <∂F_k/∂f, S τ> = 0. Several classes k
    are tried. The one with the shortest field is taken, by its longest displacement.

    ```python
    adversarial_images = fr.attacks.ADef(steps=5)(images, labels, model=model)
    ```

    Args:
      epsilon: the longest displacement that is allowed, in pixels (`"pixel_l2"`); `None` for any.
      steps: how many steps an example may take.
      smoothing: the Gaussian's standard deviation, in pixels; 0 for none.
      classes: how many of the most likely other classes are tried in each step.
      overshoot: the fraction by which a step goes too far.
      max_step: the longest displacement of a step, in pixels. A linearized warp says nothing beyond the next pixel.
      lattice: the warp's derivative at integer positions: `"forward"`, `"backward"` or `"central"`; see `ops.warp`.
      loss: the loss that the best result is chosen by. The steps follow the margins in any case.
      targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Alaifari, Alberti and Gauksson, "ADef: an iterative algorithm to construct adversarial
    deformations", 2019. They deform the deformed image again. Here the original is deformed by the sum of the fields, which
    interpolates once. They choose the classes once, and this attack chooses them in each step. They do not bound a step.
    """

    number_options = ("epsilon",)

    def __init__(
        self,
        epsilon: Optional[float] = None,
        *,
        steps: int = 50,
        smoothing: float = 1.0,
        classes: int = 3,
        overshoot: float = 0.02,
        max_step: float = 1.0,
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
        self.epsilon = None if epsilon is None else balls.PixelL2Ball(epsilon).epsilon
        self.steps = expect_positive_integer("steps", steps)
        self.smoothing = expect_not_negative("smoothing", smoothing)
        self.classes = expect_positive_integer("classes", classes)
        self.overshoot = expect_not_negative("overshoot", overshoot)
        self.max_step = expect_positive("max_step", max_step)
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)

    @property
    def perturbation(self) -> SmoothFlow:
        return SmoothFlow(smoothing=self.smoothing, lattice=self.lattice)

    @property
    def ball(self) -> Optional[balls.Ball]:
        return None if self.epsilon is None else balls.PixelL2Ball(self.epsilon)

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        def step(count, examples, parameters):
            candidate, move = self._query_and_aim(objective, examples, parameters)
            moved = parameters + move
            # The flow's displacements are means of θ's: none is longer.
            return candidate, moved if self.ball is None else self.ball.project(moved)

        best, parameters = iterate(step, self.steps, examples, clean, clean.parameters)
        return query_once(objective, examples, best, parameters)

    def _query_and_aim(self, objective, examples, parameters):
        """The `Candidate` for each θ, and the smallest move beyond a boundary of the linearized model."""
        key = type(self), self.classes, self.targeted
        candidate, leads, gradients = objective.query_with(key, self._leads, examples, parameters)
        moves = [_newton_move(lead, gradient) for lead, gradient in zip(leads, gradients)]
        lengths = [self._longest(examples.images, move) for move in moves]
        smallest = tf.argmin(tf.stack(lengths), axis=0, output_type=tf.int32)
        move, length = (
            tf.gather(tf.stack(values, axis=1), smallest, axis=1, batch_dims=1) for values in (moves, lengths)
        )
        move *= _per_example(tf.minimum(tf.math.divide_no_nan(self.max_step, length), 1 + self.overshoot), move)
        return candidate, move

    def _leads(self, predictions, labels):
        """By how much each class that is tried leads the one to leave: a list of `[batch]`."""
        label, others = split_predictions(labels, predictions)
        classes = min(self.classes, predictions.shape[1] - 1)
        if self.targeted:
            return [label - tf.reduce_max(others, axis=1)]
        return tf.unstack(tf.math.top_k(others, classes).values - label[:, tf.newaxis], axis=1)

    def _longest(self, images, move):
        """The longest displacement of each example's move; infinite where there is none to make."""
        length = balls.PixelL2Ball(0).norm(self.perturbation.flow(images, move))
        return tf.where(length > 0, length, tf.fill(tf.shape(length), tf.constant(float("inf"), length.dtype)))


def _newton_move(lead, gradient):
    """The least-squares solution of lead + <gradient, move> = 0; zero where the gradient is.

    Gradients may be so small that their squares are zero.
    """
    axes = list(range(1, gradient.shape.rank))
    largest = tf.reduce_max(tf.abs(gradient), axis=axes)
    gradient = tf.math.divide_no_nan(gradient, _per_example(largest, gradient))
    size = tf.math.divide_no_nan(lead / tf.maximum(tf.reduce_sum(tf.square(gradient), axis=axes), 1), largest)
    return -_per_example(tf.clip_by_value(size, -_LONGEST, _LONGEST), gradient) * gradient


def _per_example(values, like):
    return tf.reshape(values, [-1] + [1] * (like.shape.rank - 1))

"""The worst rotation and translation of a grid, or of random draws."""

import itertools
from typing import Optional

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.perturbations import Affine, Perturbation
from keras_flowreg.perturbations.affine import BORDERS
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange

CANDIDATES = ("grid", "random")


@keras.saving.register_keras_serializable(package="keras_flowreg")
class RotationTranslation(Attack):
    """The worst of many rotations and translations about the image's centre, for each example on its own.

    `"grid"` tries every combination of equally spaced angles and shifts, and begins with those farthest from the identity.
    `"random"` tries uniform draws (worst-of-k). The image as it is, is always a candidate.

    ```python
    attack = fr.attacks.RotationTranslation(max_angle=15, max_shift=1, angles=5, shifts=3)
    adversarial_images = attack(images, labels, model=model)
    ```

    Args:
      candidates: `"grid"` or `"random"`.
      max_angle: the largest angle either way, in degrees.
      max_shift: the largest shift either way, down and right, in pixels.
      angles: how many angles the grid has.
      shifts: how many shifts along each axis the grid has.
      draws: how many random draws are tried.
      border: what lies outside the image: `"edge"` for its nearest pixel, `"black"` for zeros.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Engstrom et al., "Exploring the landscape of spatial robustness", 2019, whose grid is the default
    and whose images have a black border.
    """

    needs_gradient = False

    def __init__(
        self,
        *,
        candidates: str = "grid",
        max_angle: float = 30.0,
        max_shift: float = 3.0,
        angles: int = 31,
        shifts: int = 5,
        draws: int = 10,
        border: str = "edge",
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
        self.candidates = expect_one_of("candidates", candidates, CANDIDATES)
        self.max_angle = expect_not_negative("max_angle", max_angle)
        self.max_shift = expect_not_negative("max_shift", max_shift)
        self.angles = expect_positive_integer("angles", angles)
        self.shifts = expect_positive_integer("shifts", shifts)
        self.draws = expect_positive_integer("draws", draws)
        self.border = expect_one_of("border", border, BORDERS)

    @property
    def perturbation(self) -> Perturbation:
        return Affine(border=self.border)

    def displacements(self) -> dict[str, Optional[float]]:
        return {"max_shift": self.max_shift}

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        steps, propose = self._grid(examples) if self.candidates == "grid" else self._random_draws(seed)

        def step(count, examples, state):
            parameters = tf.ensure_shape(tf.cast(propose(count, examples), examples.images.dtype), [None, 4])
            return objective.query(examples, parameters), state

        return iterate(step, steps, examples, clean, ())[0]

    def _grid(self, examples):
        points = self._grid_points()
        grid = tf.constant(points, examples.images.dtype)

        def propose(count, examples):
            return tf.repeat(grid[count][tf.newaxis], tf.shape(examples.images)[0], axis=0)

        return len(points), propose

    def _grid_points(self):
        """`[points, 4]`, the furthest from the identity first."""
        angles = _symmetric(self.max_angle, self.angles)
        shifts = _symmetric(self.max_shift, self.shifts)
        points = [(angle, down, right, 0.0) for angle, down, right in itertools.product(angles, shifts, shifts)]
        ranges = [self.max_angle or 1, self.max_shift or 1, self.max_shift or 1, 1]
        return sorted(points, key=lambda point: -sum(abs(value / limit) for value, limit in zip(point, ranges)))

    def _random_draws(self, seed):
        limits = tf.constant([self.max_angle, self.max_shift, self.max_shift, 0.0])

        def propose(count, examples):
            draw_seed = random.fold_in(seed, count)
            return limits * examples.draw(lambda batch: random.uniform([batch, 4], draw_seed, -1.0, 1.0))

        return self.draws, propose


def _symmetric(limit, count):
    """`count` equally spaced numbers from -limit to limit; only 0 if there is one."""
    return np.linspace(-limit, limit, count).tolist() if count > 1 else [0.0]

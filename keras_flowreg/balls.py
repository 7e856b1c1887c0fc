"""Norm balls around the identity: the threat models.

Every function works on each example alone: the first axis is the batch, and norms run over the rest. A ball of a norm ‖·‖
and a radius ε answers five questions. How long is θ (`norm`)? How fast can a loss with the gradient g rise (`dual_norm`)?
Where in the ball does it rise most (`steepest_ascent`)? Which point of the ball is nearest (`project`)? What is a random
point of it (`sample`)? They are tied by

    <g, steepest_ascent(g)> = ε · dual_norm(g)
"""

from collections.abc import Sequence
from typing import Union

import keras
import tensorflow as tf

from keras_flowreg.ops import random
from keras_flowreg.ops.validation import as_scalar, expect_not_negative, expect_one_of
from keras_flowreg.types import Config, Number, Parameters, PerExample, Seed


class Ball:
    """A norm ball around zero, for each example. A subclass says which norm.

    ```python
    ball: fr.balls.Ball = fr.balls.LInfBall(epsilon=0.4)
    print(ball.epsilon)
    ```

    Args:
      epsilon: the radius, in the units of θ (pixels for a flow), not negative; in a graph a scalar tensor too.

    Raises:
      ValueError: if the radius is negative or not finite.
    """

    def __init__(self, epsilon: Number):
        self.epsilon = expect_not_negative("epsilon", epsilon)

    def norm(self, theta: Parameters) -> PerExample:
        """‖θ‖: `[batch, ...]` to `[batch]`."""
        raise NotImplementedError

    def dual_norm(self, gradient: Parameters) -> PerExample:
        """max <g, θ> over ‖θ‖ ≤ 1: `[batch, ...]` to `[batch]`."""
        raise NotImplementedError

    def steepest_ascent(self, gradient: Parameters) -> tf.Tensor:
        """The θ of the ball with the largest <g, θ>; zero where the gradient is zero."""
        raise NotImplementedError

    def project(self, theta: Parameters) -> tf.Tensor:
        """The nearest point of the ball."""
        raise NotImplementedError

    def sample(self, shape: Union[tf.Tensor, Sequence[int]], seed: Seed) -> tf.Tensor:
        """A uniform draw from the ball: float32, of the shape `[batch, ...]`. The seed is two integers."""
        raise NotImplementedError

    def _radius(self, theta):
        return as_scalar(self.epsilon, theta.dtype)

    def get_config(self) -> Config:
        return {"epsilon": self.epsilon}

    @classmethod
    def from_config(cls, config: Config) -> "Ball":
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class LInfBall(Ball):
    """max_k |θ_k| ≤ ε: no component is larger than ε. The dual norm is ℓ1.

    ```python
    flow = fr.balls.LInfBall(epsilon=0.4).project(np.ones([1, 8, 10, 2], "float32"))
    print(flow.numpy().max())  # 0.4
    ```
    """

    def norm(self, theta: Parameters) -> PerExample:
        return tf.reduce_max(tf.abs(_vectors(theta)), axis=1)

    def dual_norm(self, gradient: Parameters) -> PerExample:
        return tf.reduce_sum(tf.abs(_vectors(gradient)), axis=1)

    def steepest_ascent(self, gradient: Parameters) -> tf.Tensor:
        return self._radius(gradient) * tf.sign(gradient)

    def project(self, theta: Parameters) -> tf.Tensor:
        radius = self._radius(theta)
        return tf.clip_by_value(theta, -radius, radius)

    def sample(self, shape: Union[tf.Tensor, Sequence[int]], seed: Seed) -> tf.Tensor:
        return random.uniform(shape, seed, -self.epsilon, self.epsilon)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class L2Ball(Ball):
    """sqrt(Σ_k θ_k²) ≤ ε: θ is one vector, at most ε long. The dual norm is ℓ2.

    ```python
    flow = fr.balls.L2Ball(epsilon=0.4).project(np.ones([1, 8, 10, 2], "float32"))
    print(np.linalg.norm(flow))  # 0.4
    ```
    """

    def norm(self, theta: Parameters) -> PerExample:
        return _length(_vectors(theta))[:, 0]

    def dual_norm(self, gradient: Parameters) -> PerExample:
        return self.norm(gradient)

    def steepest_ascent(self, gradient: Parameters) -> tf.Tensor:
        return tf.reshape(self._radius(gradient) * _directions(_vectors(gradient)), tf.shape(gradient))

    def project(self, theta: Parameters) -> tf.Tensor:
        return tf.reshape(_shorten(_vectors(theta), self._radius(theta)), tf.shape(theta))

    def sample(self, shape: Union[tf.Tensor, Sequence[int]], seed: Seed) -> tf.Tensor:
        direction_seed, radius_seed = _two_seeds(seed)
        directions = _vectors(random.normal(shape, direction_seed))
        components = tf.cast(tf.shape(directions)[1], tf.float32)
        radii = random.uniform([shape[0], 1], radius_seed) ** (1 / components)
        return tf.reshape(self._radius(radii) * radii * _directions(directions), shape)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class PixelL2Ball(Ball):
    """max_p ‖θ_p‖₂ ≤ ε: every pixel's displacement, the vector on the last axis, is at most ε long.

    The dual norm is Σ_p ‖g_p‖₂.

    ```python
    flow = fr.balls.PixelL2Ball(epsilon=0.4).project(np.ones([1, 8, 10, 2], "float32"))
    print(np.linalg.norm(flow[0, 0, 0]))  # 0.4
    ```
    """

    def norm(self, theta: Parameters) -> PerExample:
        return tf.reduce_max(_vectors(_length(theta)), axis=1)

    def dual_norm(self, gradient: Parameters) -> PerExample:
        return tf.reduce_sum(_vectors(_length(gradient)), axis=1)

    def steepest_ascent(self, gradient: Parameters) -> tf.Tensor:
        return self._radius(gradient) * _directions(gradient)

    def project(self, theta: Parameters) -> tf.Tensor:
        return _shorten(theta, self._radius(theta))

    def sample(self, shape: Union[tf.Tensor, Sequence[int]], seed: Seed) -> tf.Tensor:
        direction_seed, radius_seed = _two_seeds(seed)
        directions = random.normal(shape, direction_seed)
        components = tf.cast(shape[-1], tf.float32)
        radii = random.uniform(tf.concat([shape[:-1], [1]], 0), radius_seed) ** (1 / components)
        return self._radius(radii) * radii * _directions(directions)


# The ball of each norm, by the name that every option `norm` takes.
NORMS = {"linf": LInfBall, "pixel_l2": PixelL2Ball, "l2": L2Ball}
# The norms that bound each pixel on its own.
PER_PIXEL_NORMS = ("linf", "pixel_l2")


def get(norm: str, epsilon: Number) -> Ball:
    """The ball of a norm, by its name.

    ```python
    ball = fr.balls.get("pixel_l2", epsilon=0.4)
    flow = ball.sample((4, 8, 10, 2), seed=(0, 1))
    ```

    Args:
      norm: `"linf"`, `"pixel_l2"` or `"l2"`; see `LInfBall`, `PixelL2Ball` and `L2Ball`.
      epsilon: the radius.

    Raises:
      ValueError: if the norm is unknown, or ε negative or not finite.
    """
    return NORMS[expect_one_of("norm", norm, tuple(NORMS))](epsilon)


def _vectors(theta):
    """`[batch, ...]` as `[batch, components]`."""
    return tf.reshape(theta, [tf.shape(theta)[0], -1])


def _length(vectors):
    """The ℓ2 length on the last axis, kept as 1, with derivative zero (not NaN) at zero."""
    squares = tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)
    is_zero = squares == 0
    return tf.where(is_zero, tf.zeros_like(squares), tf.sqrt(tf.where(is_zero, tf.ones_like(squares), squares)))


def _directions(vectors):
    """Unit vectors on the last axis; zero stays zero. Gradients may be so small that their squares are zero."""
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(vectors), axis=-1, keepdims=True))
    vectors = tf.math.divide_no_nan(vectors, largest)
    return tf.math.divide_no_nan(vectors, _length(vectors))


def _shorten(vectors, limit):
    """Scales vectors on the last axis that are longer than `limit` back to it; right for a limit of 0 too."""
    return vectors * tf.math.divide_no_nan(limit, tf.maximum(_length(vectors), limit))


def _two_seeds(seed):
    return random.fold_in(seed, 0), random.fold_in(seed, 1)

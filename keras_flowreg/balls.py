"""Norm balls around the identity: the threat models.

Every function works on each example alone: the first axis is the batch, and norms run over the rest.
A ball of a norm ‖·‖ and radius ε answers five questions: how long is θ (`norm`), how fast can a loss
with gradient g rise (`dual_norm`), where in the ball does it rise most (`steepest_ascent`), which
point of the ball is nearest (`project`), and what lies in it at random (`sample`). They are tied by

    <g, steepest_ascent(g)> = ε · dual_norm(g)
"""

import keras
import tensorflow as tf

from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of


class Ball:
    """A norm ball of radius `epsilon` around zero, for each example.

    Args:
      epsilon: the radius, in the units of θ (pixels for a flow), not negative.
    """

    def __init__(self, epsilon):
        self.epsilon = expect_not_negative("epsilon", epsilon)

    def norm(self, theta):
        """‖θ‖: `[batch, ...]` to `[batch]`."""
        raise NotImplementedError

    def dual_norm(self, gradient):
        """max <g, θ> over ‖θ‖ ≤ 1: `[batch, ...]` to `[batch]`."""
        raise NotImplementedError

    def steepest_ascent(self, gradient):
        """The θ of the ball with the largest <g, θ>; zero where the gradient is zero."""
        raise NotImplementedError

    def project(self, theta):
        """The nearest point of the ball."""
        raise NotImplementedError

    def sample(self, shape, seed):
        """A uniform draw from the ball: float32 of `shape`, `[batch, ...]`; `seed` is two integers."""
        raise NotImplementedError

    def get_config(self):
        return {"epsilon": self.epsilon}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class LInfBall(Ball):
    """max_k |θ_k| ≤ ε. The dual norm is ℓ1."""

    def norm(self, theta):
        return tf.reduce_max(tf.abs(_vectors(theta)), axis=1)

    def dual_norm(self, gradient):
        return tf.reduce_sum(tf.abs(_vectors(gradient)), axis=1)

    def steepest_ascent(self, gradient):
        return self.epsilon * tf.sign(gradient)

    def project(self, theta):
        return tf.clip_by_value(theta, -self.epsilon, self.epsilon)

    def sample(self, shape, seed):
        return random.uniform(shape, seed, -self.epsilon, self.epsilon)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class L2Ball(Ball):
    """sqrt(Σ_k θ_k²) ≤ ε. The dual norm is ℓ2."""

    def norm(self, theta):
        return _length(_vectors(theta))[:, 0]

    def dual_norm(self, gradient):
        return self.norm(gradient)

    def steepest_ascent(self, gradient):
        return tf.reshape(self.epsilon * _directions(_vectors(gradient)), tf.shape(gradient))

    def project(self, theta):
        return tf.reshape(_shorten(_vectors(theta), self.epsilon), tf.shape(theta))

    def sample(self, shape, seed):
        direction_seed, radius_seed = _two_seeds(seed)
        directions = _vectors(random.normal(shape, direction_seed))
        components = tf.cast(tf.shape(directions)[1], tf.float32)
        radii = random.uniform([shape[0], 1], radius_seed) ** (1 / components)
        return tf.reshape(self.epsilon * radii * _directions(directions), shape)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class PixelL2Ball(Ball):
    """max_p ‖θ_p‖₂ ≤ ε: every pixel's displacement, the vector on the last axis, is at most ε long.

    The dual norm is Σ_p ‖g_p‖₂.
    """

    def norm(self, theta):
        return tf.reduce_max(_vectors(_length(theta)), axis=1)

    def dual_norm(self, gradient):
        return tf.reduce_sum(_vectors(_length(gradient)), axis=1)

    def steepest_ascent(self, gradient):
        return self.epsilon * _directions(gradient)

    def project(self, theta):
        return _shorten(theta, self.epsilon)

    def sample(self, shape, seed):
        direction_seed, radius_seed = _two_seeds(seed)
        directions = random.normal(shape, direction_seed)
        components = tf.cast(shape[-1], tf.float32)
        radii = random.uniform(tf.concat([shape[:-1], [1]], 0), radius_seed) ** (1 / components)
        return self.epsilon * radii * _directions(directions)


# The norms of this library: `"linf"`: no component of θ is longer than ε; `"pixel_l2"`: no vector on θ's last axis
# (a pixel's displacement); `"l2"`: not θ as one vector.
NORMS = {"linf": LInfBall, "pixel_l2": PixelL2Ball, "l2": L2Ball}
# Those that bound each pixel on its own.
PER_PIXEL_NORMS = ("linf", "pixel_l2")


def get(norm, epsilon):
    """Returns the ball of a norm by its name, one of `NORMS`.

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
    """Unit vectors on the last axis; zero stays zero."""
    return tf.math.divide_no_nan(vectors, _length(vectors))


def _shorten(vectors, limit):
    """Scales vectors on the last axis that are longer than `limit` back to it; right for a limit of 0 too."""
    return vectors * tf.math.divide_no_nan(tf.cast(limit, vectors.dtype), tf.maximum(_length(vectors), limit))


def _two_seeds(seed):
    return random.fold_in(seed, 0), random.fold_in(seed, 1)

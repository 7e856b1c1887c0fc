"""A flow that is smooth because fewer numbers, or blurred ones, make it."""

import keras
import tensorflow as tf

from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations.base import Perturbation
from keras_flowreg.perturbations.flow import Flow


@keras.saving.register_keras_serializable(package="keras_flowreg")
class SmoothFlow(Perturbation):
    """T(x; θ) = x warped along the flow f = A θ Bᵀ, for displacements θ `[batch, rows, columns, 2]`, in pixels.

    A `[height, rows]` and B `[width, columns]` spread θ over the image: linearly between the points of a
    coarse grid whose corners lie on the image's corners, then through a Gaussian window. Their rows are
    weights that add up to one, so no displacement of f is longer than the longest of θ: f lies in the ball of
    ε (`"linf"` or `"pixel_l2"`) if θ does.

    Args:
      control_points: rows and columns of the grid; `None` for one at each pixel.
      smoothing: the Gaussian's standard deviation in pixels; 0 for none. It ends at the image's border, where
        its weights are scaled up to one.
      lattice: the warp's derivative at integer positions; see `ops.warp`.

    Raises:
      ValueError: if an argument is out of its range.
    """

    def __init__(self, control_points=None, smoothing=0.0, lattice="central"):
        self.control_points = control_points
        if control_points is not None and expect_positive_integer("control_points", control_points) < 2:
            raise ValueError(f"Expected `control_points` to be at least 2. Received {control_points}.")
        self.smoothing = expect_not_negative("smoothing", smoothing)
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)

    def parameter_shape(self, images):
        shape = tf.shape(images)
        rows, columns = [self.control_points] * 2 if self.control_points else (shape[1], shape[2])
        return tf.stack([shape[0], rows, columns, 2])

    def apply(self, images, parameters):
        return Flow(self.lattice).apply(images, self.flow(images, parameters))

    def flow(self, images, parameters):
        vertical, horizontal = self._spreads(images)
        return tf.einsum("hr,brcd,wc->bhwd", vertical, parameters, horizontal)

    def linearize(self, images, parameters):
        vertical, horizontal = self._spreads(images)
        perturbed, pull_back = Flow(self.lattice).linearize(images, self.flow(images, parameters))

        def pull_back_to_parameters(upstream):
            return tf.einsum("hr,bhwd,wc->brcd", vertical, pull_back(upstream), horizontal)

        return perturbed, pull_back_to_parameters

    def get_config(self):
        return {"control_points": self.control_points, "smoothing": self.smoothing, "lattice": self.lattice}

    def _spreads(self, images):
        """A and B, in the dtype of `images`."""
        return [self._spread(tf.shape(images)[axis], images.dtype) for axis in (1, 2)]

    def _spread(self, size, dtype):
        pixels = tf.range(tf.cast(size, dtype))
        spread = tf.eye(size, dtype=dtype)
        if self.control_points:
            points = tf.linspace(tf.zeros([], dtype), tf.cast(size - 1, dtype), self.control_points)
            spacing = tf.cast(size - 1, dtype) / (self.control_points - 1)
            spread = tf.nn.relu(1 - tf.abs(pixels[:, tf.newaxis] - points) / spacing)
        if self.smoothing:
            distances = pixels[:, tf.newaxis] - pixels
            spread = _weights(tf.exp(-0.5 * tf.square(distances / self.smoothing))) @ spread
        return _weights(spread)


def _weights(matrix):
    """Scales rows to add up to one."""
    return matrix / tf.reduce_sum(matrix, axis=1, keepdims=True)

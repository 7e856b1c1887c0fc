"""A flow that is smooth because fewer numbers, or blurred ones, make it."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg.ops.matching import expect_parameters
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations.base import Perturbation
from keras_flowreg.perturbations.flow import Flow
from keras_flowreg.types import Config, Images, Parameters, Pullback


@keras.saving.register_keras_serializable(package="keras_flowreg")
class SmoothFlow(Perturbation):
    """T(x; θ) = x warped along the flow f = A θ Bᵀ, for displacements θ `[batch, rows, columns, 2]`, in pixels.

    A `[height, rows]` and B `[width, columns]` spread θ over the image: first linearly between the points of a coarse grid,
    whose corners lie on the image's corners, and then through a Gaussian window. The rows of A and B are weights that add
    up to one. So no displacement of f is longer than the longest one of θ, and f lies in a ball (`"linf"` or
    `"pixel_l2"`) if θ does.

    ```python
    smooth = fr.perturbations.SmoothFlow(control_points=3)
    attack = fr.attacks.PGD(smooth, epsilon=0.4, steps=5)
    adversarial_images = attack(images, labels, model=model)
    ```

    Args:
      control_points: how many rows and columns the grid has; `None` for a point at each pixel.
      smoothing: the standard deviation of the Gaussian, in pixels; 0 for none. The window ends at the image's border.
        What is left of it is scaled up to add up to one.
      lattice: the warp's derivative at integer positions: `"forward"`, `"backward"` or `"central"`; see `ops.warp`.

    Raises:
      ValueError: if an argument is out of its range.
    """

    def __init__(self, control_points: Optional[int] = None, smoothing: float = 0.0, lattice: str = "central"):
        self.control_points = control_points
        if control_points is not None and expect_positive_integer("control_points", control_points) < 2:
            raise ValueError(f"Expected `control_points` to be at least 2. Received {control_points}.")
        self.smoothing = expect_not_negative("smoothing", smoothing)
        self.lattice = expect_one_of("lattice", lattice, DERIVATIVE_RULES)

    def parameter_shape(self, images: Images) -> tf.Tensor:
        shape = tf.shape(images)
        rows, columns = [self.control_points] * 2 if self.control_points else (shape[1], shape[2])
        return tf.stack([shape[0], rows, columns, 2])

    def apply(self, images: Images, parameters: Parameters) -> tf.Tensor:
        return Flow(self.lattice).apply(images, self.flow(images, parameters))

    def flow(self, images: Images, parameters: Parameters) -> tf.Tensor:
        sizes = [self.control_points] * 2 if self.control_points else images.shape[1:3]
        expect_parameters(parameters, [images.shape[0], *sizes, 2])
        vertical, horizontal = self._spreads(images)
        return tf.einsum("hr,brcd,wc->bhwd", vertical, parameters, horizontal)

    def linearize(self, images: Images, parameters: Parameters) -> tuple[tf.Tensor, Pullback]:
        vertical, horizontal = self._spreads(images)
        perturbed, pull_back = Flow(self.lattice).linearize(images, self.flow(images, parameters))

        def pull_back_to_parameters(upstream):
            return tf.einsum("hr,bhwd,wc->brcd", vertical, pull_back(upstream), horizontal)

        return perturbed, pull_back_to_parameters

    def get_config(self) -> Config:
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

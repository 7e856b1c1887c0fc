"""Rotation, translation and scale about the image's centre."""

import math

import keras
import tensorflow as tf

from keras_flowreg.ops.matching import expect_parameters
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.perturbations.base import Perturbation
from keras_flowreg.perturbations.flow import Flow
from keras_flowreg.types import Config, Images, Parameters, Pullback

BORDERS = ("edge", "black")


@keras.saving.register_keras_serializable(package="keras_flowreg")
class Affine(Perturbation):
    """T(x; θ) = x rotated, moved and enlarged, with θ = (angle, dy, dx, growth) `[batch, 4]`.

    The angle is in degrees, counter-clockwise for someone who looks at the image. dy (down) and dx (right) are in pixels.
    The growth is relative: 0.1 for 10 % larger. For a pixel p, measured from the image's centre, and the rotation R,

        T(x; θ)[p] = x[ Rᵀ (p - (dy, dx)) / (1 + growth) ]

    interpolated bilinearly. The four components have different units. A ball around the identity is therefore a choice
    of how many degrees are as much as one pixel.

    ```python
    parameters = tf.constant([[10.0, 1.0, 0.0, 0.0]] * len(images))  # 10 degrees, 1 pixel down
    rotated = fr.perturbations.Affine().apply(images, parameters)
    ```

    Args:
      lattice: the warp's derivative at integer positions: `"forward"`, `"backward"`, `"central"` or `"two_sided"`; see
        `ops.warp`.
      border: what lies outside the image: `"edge"` for its nearest pixel, `"black"` for zeros.

    Raises:
      ValueError: if an option is unknown.
    """

    def __init__(self, lattice: str = "central", border: str = "edge"):
        self._warp = Flow(lattice)
        self.border = expect_one_of("border", border, BORDERS)

    def parameter_shape(self, images: Images) -> tf.Tensor:
        return tf.stack([tf.shape(images)[0], 4])

    def apply(self, images: Images, parameters: Parameters) -> tf.Tensor:
        flow = self.flow(images, parameters)
        if self.border == "edge":
            return self._warp.apply(images, flow)
        return _uncover(self._warp.apply(_frame(images), _frame(flow)))

    def linearize(self, images: Images, parameters: Parameters) -> tuple[tf.Tensor, Pullback]:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(parameters)
            flow = self.flow(images, parameters)
        perturbed, pull_back_to_flow = self._linearize_flow(images, flow)
        return perturbed, lambda upstream: tape.gradient(flow, parameters, output_gradients=pull_back_to_flow(upstream))

    def flow(self, images: Images, parameters: Parameters) -> tf.Tensor:
        """The dense flow of θ: `[batch, height, width, 2]`, in pixels; exactly zero at the identity."""
        expect_parameters(parameters, [images.shape[0], 4])
        angle, down, right, growth = tf.unstack(parameters[:, :, tf.newaxis, tf.newaxis], axis=1)
        y, x = _centred_grid(images)
        radians = angle * (math.pi / 180)
        from_y, from_x = y - down, x - right
        cosine, sine = tf.cos(radians) / (1 + growth), tf.sin(radians) / (1 + growth)
        source_y = cosine * from_y + sine * from_x
        source_x = cosine * from_x - sine * from_y
        return tf.stack([y - source_y, x - source_x], axis=-1)

    @property
    def sides(self) -> tuple[Perturbation, ...]:
        return tuple(Affine(side.lattice, self.border) for side in self._warp.sides)

    def get_config(self) -> Config:
        return {"lattice": self._warp.lattice, "border": self.border}

    def _linearize_flow(self, images, flow):
        if self.border == "edge":
            return self._warp.linearize(images, flow)
        framed, pull_back = self._warp.linearize(_frame(images), _frame(flow))
        return _uncover(framed), lambda upstream: _uncover(pull_back(_frame(upstream)))


def _frame(tensor):
    """Puts a frame of zeros, one pixel wide, around `[batch, height, width, ...]`."""
    return tf.pad(tensor, [[0, 0], [1, 1], [1, 1], [0, 0]])


def _uncover(framed):
    """Takes the frame off."""
    return framed[:, 1:-1, 1:-1]


def _centred_grid(images):
    """The pixels' coordinates from the image's centre: `[height, 1]` and `[width]`."""
    height, width = tf.shape(images)[1], tf.shape(images)[2]

    def centred(size):
        return tf.range(tf.cast(size, images.dtype)) - tf.cast(size - 1, images.dtype) / 2

    return centred(height)[:, tf.newaxis], centred(width)

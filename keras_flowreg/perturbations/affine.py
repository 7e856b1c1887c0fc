"""Rotation, translation and scale about the image's centre."""

import math

import keras
import tensorflow as tf

from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.perturbations.base import Perturbation
from keras_flowreg.perturbations.flow import Flow

BORDERS = ("edge", "black")


@keras.saving.register_keras_serializable(package="keras_flowreg")
class Affine(Perturbation):
    """T(x; θ) = x rotated, moved and enlarged, with θ = (angle, dy, dx, growth) `[batch, 4]`.

    The angle is in degrees, counter-clockwise as the image is looked at; dy (down) and dx (right) are in
    pixels; growth is the relative enlargement, 0.1 for 10 % larger. With the pixel p measured from the
    image's centre, and R the rotation,

        T(x; θ)[p] = x[ Rᵀ (p - (dy, dx)) / (1 + growth) ]

    interpolated bilinearly. The four components have different
    units: a ball around the identity is a choice of how many degrees go to a pixel.

    Args:
      lattice: the warp's derivative at integer positions; see `ops.warp`.
      border: what lies outside the image: `"edge"`, its nearest pixel, or `"black"`, zeros.

    Raises:
      ValueError: if an option is unknown.
    """

    def __init__(self, lattice="central", border="edge"):
        self._warp = Flow(lattice)
        self.border = expect_one_of("border", border, BORDERS)

    def parameter_shape(self, images):
        return tf.stack([tf.shape(images)[0], 4])

    def apply(self, images, parameters):
        flow = self.flow(images, parameters)
        if self.border == "edge":
            return self._warp.apply(images, flow)
        return _uncover(self._warp.apply(_frame(images), _frame(flow)))

    def linearize(self, images, parameters):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(parameters)
            flow = self.flow(images, parameters)
        perturbed, pull_back_to_flow = self._linearize_flow(images, flow)
        return perturbed, lambda upstream: tape.gradient(flow, parameters, output_gradients=pull_back_to_flow(upstream))

    def flow(self, images, parameters):
        """The dense flow of θ: `[batch, height, width, 2]`, in pixels; exactly zero at the identity."""
        angle, down, right, growth = tf.unstack(parameters[:, :, tf.newaxis, tf.newaxis], axis=1)
        y, x = _centred_grid(images)
        radians = angle * (math.pi / 180)
        from_y, from_x = y - down, x - right
        cosine, sine = tf.cos(radians) / (1 + growth), tf.sin(radians) / (1 + growth)
        source_y = cosine * from_y + sine * from_x
        source_x = cosine * from_x - sine * from_y
        return tf.stack([y - source_y, x - source_x], axis=-1)

    @property
    def sides(self):
        return tuple(Affine(side.lattice, self.border) for side in self._warp.sides)

    def get_config(self):
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

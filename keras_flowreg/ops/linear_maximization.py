"""The maximum of a linear function of a warped image: which displacement takes each pixel farthest along a direction."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from keras_flowreg.ops.validation import as_scalar
from keras_flowreg.types import FlowField, Images, Number

_ANGLES = 16
_WHOLE = 8  # how many whole positions are tried on either side of zero, along each axis


class Shift(NamedTuple):
    """How far a pixel moves along one axis: by a whole number of pixels, and by a part of a ball's radius."""

    whole: int
    part: float = 0.0

    def pixels(self, epsilon: Number) -> Number:
        """The same in pixels, for the radius ε."""
        return self.whole + self.part * epsilon


Displacement = tuple[Shift, Shift]


def extreme_displacements(norm: str, epsilon: float) -> list[Displacement]:
    """Lists the displacements of a ball at which a pixel's value can be extreme.

    The interpolant is bilinear in each cell between whole positions. So over a box it is extreme at a corner: at whole
    numbers of pixels, or at ±ε. That is exact for `"linf"` up to 9 pixels. For `"pixel_l2"` the whole positions within
    the disc are tried, and 16 directions on its edge. The list is the same for all radii that hold the same whole
    positions. Of more than 8 on a side, 8 are tried, from end to end: the work does not grow any further.

    Args:
      norm: `"linf"` or `"pixel_l2"`. The caller checks it.
      epsilon: the radius, in pixels.

    Returns:
      A list of displacements `(down, right)`. Zero comes first.
    """
    largest = math.floor(epsilon)
    positive = sorted({round(largest * (k + 1) / min(largest, _WHOLE)) for k in range(min(largest, _WHOLE))})
    whole = [Shift(number) for number in [*(-number for number in reversed(positive)), 0, *positive]]
    if norm == "linf":
        ends = [] if whole[-1].whole == epsilon else [Shift(0, -1.0), Shift(0, 1.0)]
        shifts = ends[:1] + whole + ends[1:]
        inside = [(down, right) for down in shifts for right in shifts]
    else:
        angles = [2 * math.pi * k / _ANGLES for k in range(_ANGLES)]
        inside = [(down, right) for down in whole for right in whole if math.hypot(down.whole, right.whole) <= epsilon]
        inside += [(Shift(0, math.sin(angle)), Shift(0, math.cos(angle))) for angle in angles]
    return sorted(inside, key=lambda displacement: displacement != (Shift(0), Shift(0)))


def maximizing_flow(
    images: Images, direction: tf.Tensor, displacements: Sequence[Displacement], epsilon: Number
) -> tuple[FlowField, tf.Tensor]:
    """Finds for each pixel the displacement whose value goes farthest along a direction.

        f[b, i, j] = argmax over d of Σ_c direction[b, i, j, c] · images[b, i - d_y, j - d_x, c]

    Where `direction` is ∂loss/∂image, this maximizes the loss, linearized in the image, over every flow in the ball. The
    kinks of the warp, which stop a gradient with respect to the flow, do not stop it.

    Args:
      images: float `[batch, height, width, channels]`.
      direction: a tensor of the same shape.
      displacements: what `extreme_displacements` lists.
      epsilon: the radius, in pixels: a number or a scalar tensor.

    Returns:
      `(flow, is_moved)`: the flow `[batch, height, width, 2]`, in pixels, and bool `[batch, height, width]`, whether the
      displacement makes a difference. Where it makes none, the flow is the first displacement.
    """
    # A row that is moved down is used for every move to the right.
    rows = {down: shifted(images, down, epsilon, axis=1) for down, _ in displacements}

    def gain(down, right):
        return tf.reduce_sum(direction * shifted(rows[down], right, epsilon, axis=2), axis=-1)

    def in_pixels(displacement):
        return tf.stack([as_scalar(shift.pixels(epsilon), images.dtype) for shift in displacement])

    best = worst = gain(*displacements[0])
    best_flow = tf.zeros_like(best)[..., tf.newaxis] + in_pixels(displacements[0])
    for displacement in displacements[1:]:
        gained = gain(*displacement)
        best_flow = tf.where((gained > best)[..., tf.newaxis], in_pixels(displacement), best_flow)
        best, worst = tf.maximum(best, gained), tf.minimum(worst, gained)
    return best_flow, best > worst


def shifted(images: Images, shift: Shift, epsilon: Number, axis: int) -> tf.Tensor:
    """Images moved along an axis, interpolated linearly; edge pixels go on."""
    if not shift.part:
        return _shift_whole(images, shift.whole, axis)
    pixels = as_scalar(shift.pixels(epsilon), tf.float64)
    whole = tf.floor(pixels)
    near, far = (_shift_whole(images, tf.cast(whole, tf.int32) + step, axis) for step in (0, 1))
    # Between two equal pixels this is their value, without rounding.
    return near + tf.cast(pixels - whole, images.dtype) * (far - near)


def _shift_whole(images, shift, axis):
    size = tf.shape(images)[axis]
    return tf.gather(images, tf.clip_by_value(tf.range(size) - shift, 0, size - 1), axis=axis)

"""The maximum of a linear function of a warped image: which displacement takes each pixel farthest along a direction."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

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
    gains = (tf.reduce_sum(direction * each, axis=-1) for each in displaced(images, displacements, epsilon))
    best = worst = next(gains)
    number_of_best = tf.zeros_like(best, tf.int64)
    for number, gained in enumerate(gains, start=1):
        number_of_best = tf.where(gained > best, tf.constant(number, tf.int64), number_of_best)
        best, worst = tf.maximum(best, gained), tf.minimum(worst, gained)
    return tf.gather(_in_pixels(displacements, epsilon, images.dtype), number_of_best), best > worst


def _in_pixels(displacements, epsilon, dtype):
    """Displacements in pixels, `[displacements, 2]`."""
    shifts = [shift for displacement in displacements for shift in displacement]
    pixels = {shift: as_scalar(shift.pixels(epsilon), dtype) for shift in shifts}
    return tf.reshape(tf.stack([pixels[shift] for shift in shifts]), [-1, 2])


def displaced(images: Images, displacements: Sequence[Displacement], epsilon: Number) -> Iterator[tf.Tensor]:
    """The images as each displacement moves them, interpolated linearly; edge pixels go on."""
    downs, rights = map(dict.fromkeys, zip(*displacements))
    # A row that is moved down is used for every move to the right.
    rows = {down: _sample(images, _taps(images, down, epsilon, axis=1), axis=1) for down in downs}
    taps = {right: _taps(images, right, epsilon, axis=2) for right in rights}
    for down, right in displacements:
        yield _sample(rows[down], taps[right], axis=2)


class _Taps(NamedTuple):
    """Which pixels along an axis come to each place, and how far between them."""

    near: tf.Tensor
    far: Optional[tf.Tensor] = None
    fraction: Optional[tf.Tensor] = None


def _taps(images, shift, epsilon, axis):
    size = images.shape[axis] or tf.shape(images)[axis]

    def before(whole):
        return tf.clip_by_value(tf.range(size) - whole, 0, size - 1)

    if not shift.part:
        return _Taps(before(shift.whole))
    pixels = as_scalar(shift.pixels(epsilon), tf.float64)
    whole = tf.floor(pixels)
    near, far = (before(tf.cast(whole, tf.int32) + step) for step in (0, 1))
    return _Taps(near, far, tf.cast(pixels - whole, images.dtype))


def _sample(images, taps, axis):
    near = tf.gather(images, taps.near, axis=axis)
    if taps.far is None:
        return near
    # Between two equal pixels this is their value, without rounding.
    return near + taps.fraction * (tf.gather(images, taps.far, axis=axis) - near)

"""The maximum of a linear function of a warped image: which displacement takes each pixel farthest along a direction."""

import math

import tensorflow as tf

from keras_flowreg.types import FlowField, Images

_ANGLES = 16


def extreme_displacements(norm: str, epsilon: float) -> list[tuple[float, float]]:
    """Lists the displacements of a ball at which a pixel's value can be extreme.

    The interpolant is bilinear in each cell between whole positions. So over a box it is extreme at a corner: at whole
    numbers of pixels, or at ±ε. That is exact for `"linf"`. For `"pixel_l2"` the whole positions within the disc are
    tried, and 16 directions on its edge.

    Args:
      norm: `"linf"` or `"pixel_l2"`. The caller checks it.
      epsilon: the radius, in pixels.

    Returns:
      A list of `(dy, dx)`, in pixels. Zero comes first.
    """
    whole = range(-math.floor(epsilon), math.floor(epsilon) + 1)
    if norm == "linf":
        values = sorted({*map(float, whole), epsilon, -epsilon})
        inside = [(dy, dx) for dy in values for dx in values]
    else:
        angles = [2 * math.pi * k / _ANGLES for k in range(_ANGLES)]
        inside = [(float(dy), float(dx)) for dy in whole for dx in whole if math.hypot(dy, dx) <= epsilon]
        inside += [(epsilon * math.sin(angle), epsilon * math.cos(angle)) for angle in angles]
    return sorted(inside, key=lambda displacement: displacement != (0.0, 0.0))


def maximizing_flow(
    images: Images, direction: tf.Tensor, displacements: list[tuple[float, float]]
) -> tuple[FlowField, tf.Tensor]:
    """Finds for each pixel the displacement whose value goes farthest along a direction.

        f[b, i, j] = argmax over d of Σ_c direction[b, i, j, c] · images[b, i - d_y, j - d_x, c]

    Where `direction` is ∂loss/∂image, this maximizes the loss, linearized in the image, over every flow in the ball. The
    kinks of the warp, which stop a gradient with respect to the flow, do not stop it.

    Args:
      images: float `[batch, height, width, channels]`.
      direction: a tensor of the same shape.
      displacements: a list of `(dy, dx)`, in pixels.

    Returns:
      `(flow, is_moved)`: the flow `[batch, height, width, 2]`, in pixels, and bool `[batch, height, width]`, whether the
      displacement makes a difference. Where it makes none, the flow is the first displacement.
    """
    # A row that is moved down is used for every move to the right.
    rows = {down: _shift(images, down, axis=1) for down, _ in displacements}

    def gain(down, right):
        return tf.reduce_sum(direction * _shift(rows[down], right, axis=2), axis=-1)

    best = worst = gain(*displacements[0])
    best_flow = tf.zeros_like(best)[..., tf.newaxis] + tf.constant(displacements[0], images.dtype)
    for displacement in displacements[1:]:
        gained = gain(*displacement)
        best_flow = tf.where((gained > best)[..., tf.newaxis], tf.constant(displacement, images.dtype), best_flow)
        best, worst = tf.maximum(best, gained), tf.minimum(worst, gained)
    return best_flow, best > worst


def _shift(images, shift, axis):
    """Images moved along an axis by a Python number of pixels, interpolated linearly; edge pixels go on."""
    whole = math.floor(shift)
    fraction = shift - whole
    near = _shift_whole(images, whole, axis)
    return near if not fraction else (1 - fraction) * near + fraction * _shift_whole(images, whole + 1, axis)


def _shift_whole(images, shift, axis):
    if not shift:
        return images
    size = tf.shape(images)[axis]
    return tf.gather(images, tf.clip_by_value(tf.range(size) - shift, 0, size - 1), axis=axis)

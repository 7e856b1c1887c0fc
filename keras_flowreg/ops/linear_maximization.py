"""The maximum of a linear function of a warped image: which displacement takes each pixel farthest along a direction."""

import math

import tensorflow as tf

_ANGLES = 16


def extreme_displacements(norm, epsilon):
    """Lists the displacements of a ball at which a pixel's value can be extreme.

    The bilinear interpolant is bilinear in each cell between whole positions, so over a box it is extreme at
    a corner: at whole numbers of pixels, or at ±ε. That is exact for `"linf"`. For `"pixel_l2"` they are the
    whole positions within the disc and 16 directions on its edge.

    Args:
      norm: `"linf"` or `"pixel_l2"`, checked by the caller.
      epsilon: the radius, in pixels.

    Returns:
      List of `(dy, dx)`, in pixels, zero first.
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


def maximizing_flow(images, direction, displacements):
    """Finds for each pixel the displacement whose value goes farthest along a direction.

        f[b, i, j] = argmax over d of Σ_c direction[b, i, j, c] · images[b, i - d_y, j - d_x, c]

    With `direction` = ∂loss/∂image this maximizes the loss, linearized in the image, over every flow in the ball,
    across the kinks that stop a gradient with respect to the flow.

    Args:
      images: float `[batch, height, width, channels]`.
      direction: of the same shape.
      displacements: list of `(dy, dx)`, in pixels.

    Returns:
      `(flow, is_moved)`: `[batch, height, width, 2]` in pixels, and bool `[batch, height, width]`: whether the
      values differ at all; where they do not the flow is the first displacement.
    """
    best_flow, best, worst = None, None, None
    rows = {}
    for down, right in displacements:
        if down not in rows:
            rows[down] = _shift(images, down, axis=1)
        gain = tf.reduce_sum(direction * _shift(rows[down], right, axis=2), axis=-1)
        displacement = tf.constant([down, right], images.dtype)
        if best is None:
            best, worst = gain, gain
            best_flow = tf.zeros_like(gain)[..., tf.newaxis] + displacement
            continue
        best_flow = tf.where((gain > best)[..., tf.newaxis], displacement, best_flow)
        best, worst = tf.maximum(best, gain), tf.minimum(worst, gain)
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

"""Bilinear warping along a dense flow, and its derivatives.

The bilinear interpolant is piecewise linear along each axis, with a kink at every integer position. So its derivative there
has to be chosen. A *lattice rule* names the choice:

- `"forward"`: x[i + 1] - x[i];
- `"backward"`: x[i] - x[i - 1];
- `"central"`: the mean of the two;
- `"two_sided"`: both, for a penalty to average. It names a pair of derivatives.

Between integer positions the rules agree. Outside the image lies its nearest edge pixel.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.ops.validation import expect_finite, expect_flow, expect_images, expect_one_of
from keras_flowreg.types import FlowField, Images

ONE_SIDED_RULES = ("forward", "backward")
DERIVATIVE_RULES = (*ONE_SIDED_RULES, "central")
LATTICE_RULES = (*DERIVATIVE_RULES, "two_sided")
IMPLEMENTATIONS = ("auto", "tfa", "native")


def dense_image_warp(
    images: Images, flow: FlowField, lattice: str = "central", implementation: str = "auto"
) -> tf.Tensor:
    """Warps images along a dense flow.

        output[b, i, j, c] = images[b, i - flow[b, i, j, 0], j - flow[b, i, j, 1], c]

    interpolated bilinearly. Outside the image lies its nearest edge pixel. The gradient with respect to the flow is right
    everywhere; at integer positions it follows the lattice rule.

    ```python
    flow = tf.fill([len(images), 8, 10, 2], 0.5)  # half a pixel down and right
    warped = fr.ops.dense_image_warp(images, flow)
    ```

    Args:
      images: floating `Tensor` `[batch, height, width, channels]`, at least 2x2 pixels.
      flow: floating `Tensor` `[batch, height, width, 2]`, `(dy, dx)` in pixels.
      lattice: the derivative at integer positions: `"forward"`, `"backward"` or `"central"`.
      implementation: where the values come from: `"native"`, `"tfa"` (`tfa.image.dense_image_warp`), or `"auto"`
        (TensorFlow Addons where it is installed).

    Returns:
      `Tensor` of the shape and dtype of `images`.

    Raises:
      ValueError: if a shape or an option is not as above, or TensorFlow Addons is asked for and missing.
      TypeError: if images or flow are not floating-point numbers.

    Values, sign and border rule are those of `tfa.image.dense_image_warp`. The gradient is not: at integer positions its
    gradient with respect to the flow is zero. Positions are computed relative to their pixel, so that flows in half
    precision keep their fraction on large images.
    """
    images, flow = _checked(images, flow)
    expect_one_of("lattice", lattice, DERIVATIVE_RULES)
    if resolve_implementation(implementation) == "tfa":
        return _tfa_warp(images, flow, lattice)
    return _native_warp(images, flow, lattice)


def dense_image_warp_with_gradients(
    images: Images, flow: FlowField, lattice: str = "central"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Warps images, and differentiates the interpolant along both axes in the same gather pass.

    The gradient is that of the image at the sampled position, in the order `(y, x)`. The derivative of the output with
    respect to the flow is its *negative*, since a flow points back to where it samples.

    ```python
    warped, gradients = fr.ops.dense_image_warp_with_gradients(images, tf.zeros([len(images), 8, 10, 2]))
    print(gradients.shape)  # [batch, 8, 10, 2, 2]
    ```

    Args:
      images: floating `Tensor` `[batch, height, width, channels]`, at least 2x2 pixels.
      flow: floating `Tensor` `[batch, height, width, 2]`, `(dy, dx)` in pixels.
      lattice: `"forward"`, `"backward"` or `"central"`.

    Returns:
      `(output, gradients)`: the output of `dense_image_warp`, `[batch, height, width, channels]`, and the gradients per
      pixel, `[batch, height, width, channels, 2]`. Both have the dtype of `images`.

    Raises:
      ValueError: if a shape or the rule is not as above.
      TypeError: if images or flow are not floating-point numbers.
    """
    images, flow = _checked(images, flow)
    expect_one_of("lattice", lattice, DERIVATIVE_RULES)
    vertical, horizontal = _stencils(flow, lattice, _compute_dtype(images, flow))
    taps = _gather(images, vertical, horizontal)
    rows = [_combine(horizontal.values, row) for row in taps]
    row_slopes = [_combine(horizontal.slopes, row) for row in taps]
    output = _combine(vertical.values, rows)
    gradients = tf.stack([_combine(vertical.slopes, rows), _combine(vertical.values, row_slopes)], axis=-1)
    return tf.cast(output, images.dtype), tf.cast(gradients, images.dtype)


def image_gradients(images: Images, lattice: str = "central") -> tf.Tensor:
    """Differentiates images along both axes at their own pixels: the warp's gradient at zero flow.

    The one-sided derivative over the border is zero, since the edge pixel goes on outside.

    ```python
    gradients = fr.ops.image_gradients(images, lattice="forward")
    print(gradients[0, 3, 4, 0, 1])  # images[0, 3, 5, 0] - images[0, 3, 4, 0]
    ```

    Args:
      images: floating `Tensor` `[batch, height, width, channels]`, at least 2x2 pixels.
      lattice: `"forward"`, `"backward"`, `"central"` or `"two_sided"`.

    Returns:
      `[batch, height, width, channels, 2]`, `(y, x)`, per pixel, in the dtype of `images`. For `"two_sided"` the forward
      and the backward gradients, stacked in front: `[2, batch, ...]`.

    Raises:
      ValueError: if the shape or the rule is not as above.
      TypeError: if the images are not floating-point numbers.
    """
    images = tf.convert_to_tensor(images)
    expect_images(images)
    expect_one_of("lattice", lattice, LATTICE_RULES)
    if lattice == "two_sided":
        return tf.stack([image_gradients(images, rule) for rule in ONE_SIDED_RULES])
    return tf.stack([_difference(images, axis, lattice) for axis in (1, 2)], axis=-1)


def resolve_implementation(implementation: str) -> str:
    """What an implementation's name means on this installation: `"tfa"` or `"native"`.

    Raises:
      ValueError: if the name is unknown, or TensorFlow Addons is asked for and cannot be imported.
    """
    expect_one_of("implementation", implementation, IMPLEMENTATIONS)
    if implementation == "native":
        return "native"
    if compat.tfa_dense_image_warp() is not None:
        return "tfa"
    if implementation == "tfa":
        raise ValueError(
            "Expected TensorFlow Addons to be installed beside Keras 2 for implementation='tfa'. "
            "Received an installation without it: use 'native', which gives the same values."
        )
    return "native"


def _checked(images, flow):
    images, flow = tf.convert_to_tensor(images), tf.convert_to_tensor(flow)
    expect_images(images)
    expect_flow(flow, images)
    return images, expect_finite(flow, "flow") if tf.executing_eagerly() else flow


def _compute_dtype(images, flow):
    return tf.float64 if tf.float64 in (images.dtype, flow.dtype) else tf.float32


def _difference(images, axis, lattice):
    """The one-sided or central difference of images along an axis."""
    steps = images[:, 1:] - images[:, :-1] if axis == 1 else images[:, :, 1:] - images[:, :, :-1]
    forward = tf.pad(steps, [[0, int(dimension == axis)] for dimension in range(4)])
    backward = tf.pad(steps, [[int(dimension == axis), 0] for dimension in range(4)])
    return {"forward": forward, "backward": backward, "central": (forward + backward) / 2}[lattice]


class _Stencil(NamedTuple):
    """The taps that interpolate along one axis, relative to the output pixel.

    output = Σ_k values[k] · image[pixel + base + offsets[k]], and its derivative = Σ_k slopes[k] · the same.
    """

    shift: tf.Tensor  # [batch, height, width], where to sample from, within the image's size
    base: tf.Tensor  # int32 [batch, height, width]
    offsets: tuple  # of int
    values: list  # of [batch, height, width]
    slopes: list  # of [batch, height, width]


def _stencils(flow, lattice, dtype):
    """The vertical and the horizontal stencil of a flow."""
    height, width = tf.shape(flow)[1], tf.shape(flow)[2]
    return (
        _stencil(-tf.cast(flow[..., 0], dtype), height, lattice),
        _stencil(-tf.cast(flow[..., 1], dtype), width, lattice),
    )


def _stencil(shift, size, lattice):
    """The stencil that samples at `shift` from each pixel, by a lattice rule."""
    # Beyond the image nothing changes; and a far larger shift would not fit an integer.
    limit = tf.cast(size, shift.dtype)
    shift = tf.clip_by_value(shift, -limit, limit)
    base = tf.math.ceil(shift) - 1 if lattice == "backward" else tf.floor(shift)
    fraction = shift - base
    index = tf.cast(base, tf.int32)
    ones, zeros = tf.ones_like(fraction), tf.zeros_like(fraction)
    if lattice != "central":
        return _Stencil(shift, index, (0, 1), [1 - fraction, fraction], [-ones, ones])
    half_at_kink = tf.where(fraction == 0, ones / 2, zeros)
    return _Stencil(
        shift,
        index,
        (-1, 0, 1),
        [zeros, 1 - fraction, fraction],
        [-half_at_kink, 2 * half_at_kink - 1, 1 - half_at_kink],
    )


def _gather(images, vertical, horizontal):
    """Gathers every tap of the two stencils at once: `taps[row][column]`, `[batch, height, width, channels]`."""
    shape = tf.shape(images)
    batch, height, width = shape[0], shape[1], shape[2]
    first_pixel = tf.range(batch)[:, tf.newaxis, tf.newaxis] * (height * width)
    rows = vertical.base + tf.range(height)[:, tf.newaxis]
    columns = horizontal.base + tf.range(width)
    starts = [first_pixel + tf.clip_by_value(rows + row, 0, height - 1) * width for row in vertical.offsets]
    places = [tf.clip_by_value(columns + column, 0, width - 1) for column in horizontal.offsets]
    indices = [start + place for start in starts for place in places]
    pixels = tf.reshape(images, [batch * height * width, shape[3]])
    taps = tf.cast(tf.gather(pixels, tf.stack(indices)), vertical.values[0].dtype)
    taps = [tf.ensure_shape(tap, images.shape) for tap in tf.unstack(taps, num=len(indices))]
    across = len(horizontal.offsets)
    return [taps[start : start + across] for start in range(0, len(taps), across)]


def _combine(weights, tensors):
    """Σ_k weights[k] · tensors[k], the weights `[batch, height, width]` alike for every channel."""
    return tf.add_n([weight[..., tf.newaxis] * tensor for weight, tensor in zip(weights, tensors)])


def _with_slopes(stencil):
    """The stencil's values, with its slopes as their derivative with respect to the shift."""
    no_shift = stencil.shift - tf.stop_gradient(stencil.shift)
    return [
        tf.stop_gradient(value) + tf.stop_gradient(slope) * no_shift
        for value, slope in zip(stencil.values, stencil.slopes)
    ]


def _native_warp(images, flow, lattice):
    vertical, horizontal = _stencils(flow, lattice, _compute_dtype(images, flow))
    taps = _gather(images, vertical, horizontal)
    across, down = _with_slopes(horizontal), _with_slopes(vertical)
    return tf.cast(_combine(down, [_combine(across, row) for row in taps]), images.dtype)


def _tfa_warp(images, flow, lattice):
    """TensorFlow Addons' values, with the native warp's gradient."""

    @tf.custom_gradient
    def warp(images, flow):
        def gradient(upstream):
            with tf.GradientTape() as tape:
                tape.watch([images, flow])
                output = _native_warp(images, flow, lattice)
            return tape.gradient(output, [images, flow], output_gradients=upstream)

        # It takes positions in the flow's dtype.
        wide = (tf.cast(part, _compute_dtype(images, flow)) for part in (images, flow))
        return tf.cast(compat.tfa_dense_image_warp()(*wide), images.dtype), gradient

    return warp(images, flow)

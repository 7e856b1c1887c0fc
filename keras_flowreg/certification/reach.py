"""What a warped image can be: for each pixel, its values under every displacement in a ball.

A norm that bounds each pixel's displacement on its own lets each pixel move on its own. So what a pixel can become is known
without search. The interpolant is bilinear between whole positions, and so its least and greatest values over a rectangle
of displacements lie where an edge of the rectangle or a whole position is.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.certification.intervals import Interval, sum_per_example
from keras_flowreg.certification.windows import Window
from keras_flowreg.ops.linear_maximization import Displacement, Shift, displaced
from keras_flowreg.ops.matching import expect_within_images
from keras_flowreg.ops.validation import as_images, expect_finite, expect_not_negative, expect_one_of
from keras_flowreg.types import Images, PerExample

_STRIPS = 8  # that cover half a disc
_MOST_DISPLACEMENTS = 4096
_MOST_TIED = 128  # beyond as many displacements, the channels of a pixel are bounded one by one
_ROUNDING = 5e-7  # of the largest value: what the interpolation rounds


class Reach(NamedTuple):
    """All that a batch of images can become."""

    box: Interval  # [batch, height, width, channels]
    # [batch, displacements, height, width, channels]; `None` if channels are not tied
    displaced: Optional[tf.Tensor] = None
    rounding: Optional[tf.Tensor] = None  # [batch]

    def minimum(self, window: Window, examples: tf.Tensor) -> PerExample:
        """The least Σ coefficients · image; exact for `"linf"`, since the channels of a pixel move together.

        Args:
          window: the coefficients, of `[queries, height, width, channels]`.
          examples: int `[queries]`, the image that each is about.

        Returns:
          `[queries]`.
        """
        coefficients = window.coefficients
        if self.displaced is None:
            return Interval(*map(window.cut, self.box)).of(examples).minimum(coefficients)
        least = None
        for images in tf.unstack(self.displaced, axis=1):
            sums = tf.reduce_sum(coefficients * tf.gather(window.cut(images), examples), axis=-1)
            least = sums if least is None else tf.minimum(least, sums)
        return sum_per_example(least) - tf.gather(self.rounding, examples) * sum_per_example(tf.abs(coefficients))

    def minimizer(self, coefficients: tf.Tensor) -> Images:
        """What each image can become, where Σ coefficients · image is least. Both are `[batch, height, width, channels]`."""
        if self.displaced is None:
            return tf.where(coefficients > 0, self.box.low, self.box.high)
        sums = tf.reduce_sum(coefficients[:, tf.newaxis] * self.displaced, axis=-1)
        displacement = tf.argmin(sums, axis=1)
        return tf.gather(tf.transpose(self.displaced, [0, 2, 3, 1, 4]), displacement, axis=3, batch_dims=3)

    @staticmethod
    def joined(parts: Sequence["Reach"]) -> "Reach":
        """Those of several batches as one."""
        box = Interval.joined([part.box for part in parts])
        return Reach(box, *(None if each[0] is None else tf.concat(each, axis=0) for each in [*zip(*parts)][1:]))

    def of(self, examples: tf.Tensor) -> "Reach":
        """That of some examples, by their indices."""
        return Reach(self.box.of(examples), *(None if each is None else tf.gather(each, examples) for each in self[1:]))


def reach_box(images: Images, epsilon: float, norm: str = "linf") -> Interval:
    """The least and the greatest value of each pixel and channel, over every flow in a ball.

        low[b, i, j, c] = min over |d| ≤ ε of images[b, i - d_y, j - d_x, c]

    interpolated bilinearly, the nearest edge pixel outside of the image. For `"linf"` both ends are attained, but for a
    widening against rounding; for `"pixel_l2"` the disc is covered by 16 rectangles. Whatever a model does on every image in
    the box, it does under every flow in the ball. The widening is 5e-7 of the image's largest value, and what the image can
    change where a position is rounded to float32: of up to 32 pixels a side by 2e-6 of its range, of up to 64 by 4e-6.

    ```python
    box = fr.certification.reach_box(images, epsilon=0.4)
    adversarial_images = fr.attacks.FlowPGD(epsilon=0.4, steps=5)(images, labels, model=model)
    print(bool(tf.reduce_all((box.low <= adversarial_images) & (adversarial_images <= box.high))))  # True
    ```

    Args:
      images: `[batch, height, width, channels]`.
      epsilon: the radius, in pixels. The work grows with its square.
      norm: `"linf"` or `"pixel_l2"`.

    Returns:
      An `Interval` of the shape of `images`.

    Raises:
      ValueError: if an argument is out of its range, or the ball holds too many whole positions.
      TypeError: if the images are not numbers.
    """
    return reach(images, epsilon, norm).box


def reach(images: Images, epsilon: float, norm: str) -> Reach:
    """The `Reach` of images under every flow in a ball; see `reach_box`."""
    images = expect_finite(as_images(images))
    expect_one_of("norm", norm, balls.PER_PIXEL_NORMS)
    epsilon = expect_not_negative("epsilon", epsilon)
    expect_within_images("epsilon", epsilon, images)
    displacements = covering_displacements(norm, epsilon)
    low, high, kept = images, images, []
    for moved in displaced(images, displacements, epsilon):
        low, high = tf.minimum(low, moved), tf.maximum(high, moved)
        if images.shape[-1] > 1 and len(displacements) <= _MOST_TIED:
            kept.append(moved)
    rounding = _rounding(images)
    widening = tf.reshape(rounding, [-1, 1, 1, 1])
    return Reach(Interval(low - widening, high + widening), tf.stack(kept, axis=1) if kept else None, rounding)


def _rounding(images):
    """What float32 may change of each warped image, `[batch]`: its values, and their positions on both axes.

    TensorFlow Addons takes the difference of a pixel's place and its displacement.
    """
    low, high = tf.reduce_min(images, axis=[1, 2, 3]), tf.reduce_max(images, axis=[1, 2, 3])
    side = max([32, *(side for side in images.shape[1:3] if side is not None)])
    position = 2.0 ** (math.ceil(math.log2(side)) - 25)  # half of the last digit
    return 2 * position * (high - low) + _ROUNDING * tf.maximum(tf.maximum(high, -low), 1)


def covering_displacements(norm: str, epsilon: float) -> list[Displacement]:
    """Lists displacements among whose values every value of the ball lies.

    For `"linf"` they are in the ball: pairs of whole numbers, or ±ε. For `"pixel_l2"` they are the same for each of the
    strips that cover the disc from top to bottom.
    """
    rows = [(Shift(0), 1.0)] + (_edges(epsilon) if norm == "linf" else _strips(epsilon))
    count = sum(len(_across(width, epsilon)) for _, width in rows)
    if count > _MOST_DISPLACEMENTS:
        raise ValueError(
            f"Expected `epsilon` of at most {math.isqrt(_MOST_DISPLACEMENTS) // 2 - 1} pixels, to try every whole position. "
            f"Received {epsilon:g}."
        )
    return [(down, right) for down, width in rows for right in _across(width, epsilon)]


def _edges(epsilon):
    """`(shift down, 1)`: whole rows, and the edges of a square."""
    return [(shift, 1.0) for shift in _across(1.0, epsilon) if shift != Shift(0)]


def _strips(epsilon):
    """`(shift down, half of a strip's width as a part of ε)`, for the outer edge of each strip of a disc."""
    wholes = {whole / epsilon for whole in range(1, math.ceil(epsilon))}
    edges = sorted({0.0, *wholes, *((strip + 1) / _STRIPS for strip in range(_STRIPS))})
    widths = [math.sqrt(1 - inner**2) for inner in edges]
    outer = [(edge * sign, width) for edge, width in zip(edges[1:], widths) for sign in (-1, 1)]
    return [(Shift(0, edge), width) for edge, width in outer]


def _across(width, epsilon):
    """Whole shifts within a part of ε, and its two ends."""
    largest = math.floor(width * epsilon)
    ends = [] if largest == width * epsilon else [Shift(0, -width), Shift(0, width)]
    return [Shift(whole) for whole in range(-largest, largest + 1)] + ends

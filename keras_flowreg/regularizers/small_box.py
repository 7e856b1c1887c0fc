"""A small box around an attack's image, inside of a larger one."""

from collections.abc import Callable

import tensorflow as tf

from keras_flowreg.certification.intervals import Interval
from keras_flowreg.types import PerExample


def small_box(
    box: Interval, images: tf.Tensor, part: float, loss: Callable[[tf.Tensor], PerExample], steps: int
) -> Interval:
    """A part of a box, where signed gradient steps find a high loss.

        [center + (1 - part) · radius · place ± part · radius],    -1 ≤ place ≤ 1

    So it lies inside of the box, wherever the steps lead. They begin as near to the images as that allows.

    Args:
      box: of each pixel, `[batch, height, width, channels]`.
      images: in the box.
      part: of the box's width, from 0 to 1.
      loss: a function of images, which each example's steps raise.
      steps: their number.

    Returns:
      An `Interval` of the shape of `box`, which is constant to gradients.

    Reference: Müller et al., "Certified training: small boxes are all you need" (SABR), 2023. They begin at random.
    """
    reach = (1 - part) * box.radius
    place = _within(tf.math.divide_no_nan(images - box.center, reach))
    for _ in range(steps):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(place)
            losses = loss(box.center + reach * place)
        place = _within(place + 2.5 / steps * tf.sign(tape.gradient(losses, place)))
    center = tf.stop_gradient(box.center + reach * place)
    return Interval(center - part * box.radius, center + part * box.radius)


def _within(place):
    return tf.clip_by_value(place, -1, 1)

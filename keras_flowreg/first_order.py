"""First-order bounds on how far a flow raises the loss: by the flow gradient, and by the input gradient."""

from typing import NamedTuple, Optional

import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.gradients import input_gradients
from keras_flowreg.ops.matching import expect_within_images
from keras_flowreg.ops.validation import as_images, expect_not_negative, expect_one_of
from keras_flowreg.ops.warp import ONE_SIDED_RULES, image_gradients
from keras_flowreg.perturbations import Flow
from keras_flowreg.types import Images, KerasModel, Labels, Loss, PerExample


class FirstOrderBounds(NamedTuple):
    """How far a flow of radius ε raises each example's loss, to first order. `first_order_bounds` returns them.

    ```python
    bounds = fr.first_order_bounds(model, images, labels, epsilon=0.1)
    print(np.median(bounds.input / bounds.flow))  # how loose the input gradient is
    ```
    """

    flow: PerExample  # the most that a flow does
    input: PerExample  # the most that an image changed by as much does


def first_order_bounds(
    model: KerasModel,
    images: Images,
    labels: Labels,
    epsilon: float,
    loss: Optional[Loss] = None,
    *,
    norm: str = "linf",
) -> FirstOrderBounds:
    """Estimates by how much a flow raises each example's loss, from the gradient at the clean image alone.

    These numbers prove nothing. They bound the loss's linear part; the loss itself is not linear, and a flow within
    the ball can raise it by more. `certify` proves. They compare gradients: how steep the loss is for flows, and how much
    of that the input gradient sees.

    By the flow gradient g, with the dual norm of the ball,

        flow = ε · ‖g‖_*,    g = ∂loss/∂f at zero

    which the steepest flow of the ball attains for a small ε. A warp has a kink at zero flow. Of the two one-sided
    derivatives in each direction, the one with the greater rise is taken. By the input gradient, with Hölder's inequality,
    for the change δ of the image's values that a flow can make, to first order,

        input = min over (p, q) of ‖∂loss/∂x‖_q · max ‖δ‖_p,    1/p + 1/q = 1,  p = 1, 2, ∞

    which forgets where δ points: it is never below `flow`.

    Args:
      model: a Keras model, from images to logits or probabilities.
      images: `[batch, height, width, channels]`.
      labels: `[batch]`, or as the loss takes them.
      epsilon: the radius, in pixels.
      loss: a Keras loss (instance, function or name); `None` for the one that the model is compiled with.
      norm: `"linf"` or `"pixel_l2"`; see `attacks.FlowPGD`.

    Returns:
      `FirstOrderBounds`.

    Raises:
      ValueError: if an argument is out of its range, or there is no loss.
      TypeError: if the images are not numbers.

    ```python
    bounds = fr.first_order_bounds(model, images, labels, epsilon=0.1)
    print(bounds.flow, bounds.input)
    ```

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021,
    for the comparison. The side at the kink and the least of three norms are this library's.
    """
    images = as_images(images)
    ball = balls.get(expect_one_of("norm", norm, balls.PER_PIXEL_NORMS), expect_not_negative("epsilon", epsilon))
    expect_within_images("epsilon", ball.epsilon, images)
    gradients = input_gradients(model, images, labels, loss)
    forward, backward = (Flow(rule).linearize_at_identity(images)[1](gradients) for rule in ONE_SIDED_RULES)
    # A flow points back to where a pixel comes from: a positive one takes it from the backward side.
    rise = tf.nn.relu(tf.maximum(backward, -forward))
    slopes = [tf.abs(image_gradients(images, rule)) for rule in ONE_SIDED_RULES]
    change = _largest_change(tf.maximum(*slopes), norm)
    return FirstOrderBounds(ball.epsilon * ball.dual_norm(rise), ball.epsilon * _least_holder_bound(gradients, change))


def _largest_change(slopes, norm):
    """By how much a flow of radius 1 changes each value: `[..., channels, 2]` to `[..., channels]`."""
    return tf.reduce_sum(slopes, axis=-1) if norm == "linf" else tf.norm(slopes, axis=-1)


def _least_holder_bound(gradients, change):
    """The least product of dual norms of two tensors, example by example."""
    pairs = ((1, float("inf")), (2, 2), (float("inf"), 1))
    return tf.reduce_min([_norm(gradients, q) * _norm(change, p) for q, p in pairs], axis=0)


def _norm(tensor, order):
    return tf.norm(tf.reshape(tensor, [tf.shape(tensor)[0], -1]), ord=float(order), axis=1)

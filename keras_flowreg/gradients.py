"""The gradient of each example's loss with respect to a perturbation of its image."""

import tensorflow as tf

from keras_flowreg.ops.losses import compiled_loss, per_example_loss, resolve_loss
from keras_flowreg.ops.validation import as_images, expect_one_of
from keras_flowreg.perturbations import Additive, Flow, TapeLinearized

GRADIENTS = ("analytic", "tape")


def loss_gradient(model, images, labels, loss, training=False):
    """Runs a model and differentiates each example's loss with respect to its image.

    Args:
      model: a callable Keras model.
      images: float `[batch, height, width, channels]`.
      labels: as `loss` takes them.
      loss: a `keras.losses.Loss`, or a function of `(labels, predictions)`.
      training: the mode the model is run in.

    Returns:
      `(predictions, losses, gradients)`: the losses are `[batch]`, the gradients
      `[batch, height, width, channels]`.

    Raises:
      ValueError: if the predictions cannot be differentiated with respect to the images.
    """
    with tf.GradientTape() as tape:
        tape.watch(images)
        predictions = model(images, training=training)
        losses = per_example_loss(loss, labels, predictions)
    gradients = tape.gradient(losses, images)
    if gradients is None:
        raise ValueError(
            "Expected the model's loss to be differentiable with respect to its images. "
            f"Received a model without such a gradient: {model}."
        )
    return predictions, losses, gradients


def linearize(sides, images, parameters):
    """Linearizes every side of a perturbation at one place.

    Args:
      sides: perturbations with the same values, such as the one-sided derivatives of one warp.
      images: float `[batch, height, width, channels]`.
      parameters: θ; `None` for the identity.

    Returns:
      `(perturbed, pullbacks)`: the perturbed images, which all sides share, and each side's pullback.
    """
    if parameters is None:
        linearizations = [side.linearize_at_identity(images) for side in sides]
    else:
        linearizations = [side.linearize(images, parameters) for side in sides]
    return linearizations[0][0], [pullback for _, pullback in linearizations]


def perturbation_gradients(model, perturbation, images, labels, loss=None, parameters=None, training=False):
    """The gradient of each example's loss with respect to a perturbation's parameters.

    Args:
      model: a Keras model, images to logits or probabilities.
      perturbation: the `Perturbation` T(x; θ).
      images: `[batch, height, width, channels]`.
      labels: as the loss takes them.
      loss: a Keras loss: instance, function or name; `None` for the one the model was compiled with.
      parameters: the θ to differentiate at; `None` for the identity.
      training: the mode the model is run in.

    Returns:
      The gradients, of the shape of θ; where the perturbation stands for several sides, those of each,
      stacked in front.

    Raises:
      ValueError, TypeError: if images, labels or loss are not as above.
    """
    images = as_images(images)
    if parameters is not None:
        parameters = tf.cast(parameters, images.dtype)
    perturbed, pullbacks = linearize(perturbation.sides, images, parameters)
    _, _, upstream = loss_gradient(model, perturbed, labels, resolve_loss(loss, compiled_loss(model)), training)
    gradients = [pullback(upstream) for pullback in pullbacks]
    return gradients[0] if len(gradients) == 1 else tf.stack(gradients)


def flow_gradients(
    model, images, labels, loss=None, *, flow=None, lattice="central", gradient="analytic", training=False
):
    """The gradient of each example's loss with respect to a flow that warps its image.

    Args:
      model: a Keras model, images to logits or probabilities.
      images: `[batch, height, width, channels]`.
      labels: as the loss takes them.
      loss: a Keras loss: instance, function or name; `None` for the one the model was compiled with.
      flow: the flow to differentiate at, `[batch, height, width, 2]`, `(dy, dx)` in pixels; `None` for zero.
      lattice: the warp's derivative at integer positions; see `ops.warp`.
      gradient: `"analytic"` or `"tape"` (through `ops.dense_image_warp`).
      training: the mode the model is run in.

    Returns:
      `[batch, height, width, 2]`, loss per pixel of displacement. With `lattice="two_sided"` the forward
      and the backward gradients, stacked in front: `[2, batch, height, width, 2]`.

    Raises:
      ValueError, TypeError: if an argument is not as above.
    """
    expect_one_of("gradient", gradient, GRADIENTS)
    perturbation = Flow(lattice) if gradient == "analytic" else TapeLinearized(Flow(lattice))
    return perturbation_gradients(model, perturbation, images, labels, loss, flow, training)


def input_gradients(model, images, labels, loss=None, *, training=False):
    """The gradient of each example's loss with respect to its image.

    Args:
      model, images, labels, loss, training: as `flow_gradients`.

    Returns:
      `[batch, height, width, channels]`, loss per unit of the image's values.

    Raises:
      ValueError, TypeError: if an argument is not as above.
    """
    return perturbation_gradients(model, Additive(), images, labels, loss, training=training)

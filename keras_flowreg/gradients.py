"""The gradient of each example's loss with respect to a perturbation of its image."""

from collections.abc import Sequence
from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.ops.losses import compiled_loss, expect_labels_in_range, per_example_loss, resolve_loss
from keras_flowreg.ops.matching import expect_images_of, expect_one_output
from keras_flowreg.ops.validation import (
    as_images,
    as_labels,
    expect_boolean,
    expect_finite,
    expect_instance,
    expect_one_of,
    expect_same_batch,
)
from keras_flowreg.perturbations import Additive, Flow, Perturbation, TapeLinearized
from keras_flowreg.second_derivatives import exact_second_derivatives
from keras_flowreg.types import (
    FlowField,
    Images,
    KerasModel,
    Labels,
    Loss,
    LossFunction,
    Parameters,
    PerExample,
    Predictions,
    Pullback,
)

GRADIENTS = ("analytic", "tape")


def loss_gradient(
    model: KerasModel, images: Images, labels: Labels, loss: LossFunction, training: bool = False
) -> tuple[Predictions, PerExample, tf.Tensor]:
    """Runs a model and differentiates each example's loss with respect to its image.

    Args:
      model: a Keras model, from images to predictions.
      images: float `[batch, height, width, channels]`.
      labels: `[batch]`, or as the loss takes them.
      loss: a `keras.losses.Loss`, or a function of `(labels, predictions)`.
      training: the mode that the model is run in.

    Returns:
      `(predictions, losses, gradients)`: the losses are `[batch]`, the gradients
      `[batch, height, width, channels]`.

    Raises:
      ValueError: if the predictions cannot be differentiated with respect to the images.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        with exact_second_derivatives():
            predictions = expect_one_output(model(images, training=training))
        wide = widened(predictions, images)
        labels = expect_labels_in_range(labels, predictions, loss)
        losses = per_example_loss(loss, labels, wide)
    gradients = gradient_through(model, tape, losses, wide, images, mixes_examples=training is not False)
    if gradients is None:
        raise ValueError(
            "Expected the model's loss to be differentiable with respect to its images. "
            f"Received a model without such a gradient: {model.name}{_hint(model)}."
        )
    return predictions, losses, gradients


def widened(predictions: Predictions, images: Images) -> Predictions:
    """Predictions in half precision as those of the images."""
    return tf.cast(predictions, images.dtype) if predictions.dtype in (tf.float16, tf.bfloat16) else predictions


def gradient_through(
    model: KerasModel,
    tape: tf.GradientTape,
    values: tf.Tensor,
    predictions: Predictions,
    images: Images,
    mixes_examples: bool = False,
) -> Optional[tf.Tensor]:
    """The gradient of values with respect to images, through predictions.

    In half precision what goes back through the model is brought to one size first: it would become zero there. Of a model
    that mixes the examples of a batch, as BatchNormalization does in training, only the whole batch can be.

    Args:
      model: whose predictions they are.
      tape: a persistent tape, which has recorded all.
      values: what is differentiated.
      predictions: `[batch, classes]`, `widened`.
      images: `[batch, height, width, channels]`.
      mixes_examples: whether the model may mix examples.

    Returns:
      The gradient, of the shape of the images, or `None`.
    """
    if not any(getattr(layer, "compute_dtype", None) == "float16" for layer in compat.all_layers(model)):
        return tape.gradient(values, images)
    upstream = tape.gradient(values, predictions)
    if upstream is None:
        return None
    size = tf.stop_gradient(tf.reduce_max(tf.abs(upstream), axis=None if mixes_examples else -1, keepdims=True))
    gradient = tape.gradient(predictions, images, output_gradients=tf.math.divide_no_nan(upstream, size))
    return None if gradient is None else gradient * tf.reshape(tf.cast(size, gradient.dtype), [-1, 1, 1, 1])


def expect_differentiable_images(model: KerasModel) -> None:
    """Checks that a model does not take its images as integers.

    Raises:
      ValueError: if it does.
    """
    if hint := _hint(model):
        raise ValueError(f"Expected a model whose images have a gradient. Received {model.name}{hint}.")


def _hint(model):
    tensors = getattr(model, "inputs", None) or []
    dtypes = [tf.as_dtype(tensor.dtype) for tensor in tensors]
    if not any(dtype.is_integer for dtype in dtypes):
        return ""
    return f", which takes {dtypes[0].name}: give its keras.Input the dtype float32, and bytes can still be fed"


def linearize(
    sides: Sequence[Perturbation], images: Images, parameters: Optional[Parameters]
) -> tuple[tf.Tensor, list[Pullback]]:
    """Linearizes every side of a perturbation at one place.

    Args:
      sides: perturbations with the same values, such as the one-sided derivatives of one warp.
      images: float `[batch, height, width, channels]`.
      parameters: the θ to linearize at; `None` for the identity.

    Returns:
      `(perturbed, pullbacks)`: the perturbed images, which all sides share, and each side's pullback.
    """
    if parameters is None:
        linearizations = [side.linearize_at_identity(images) for side in sides]
    else:
        linearizations = [side.linearize(images, parameters) for side in sides]
    return linearizations[0][0], [pullback for _, pullback in linearizations]


def perturbation_gradients(
    model: KerasModel,
    perturbation: Perturbation,
    images: Images,
    labels: Labels,
    loss: Optional[Loss] = None,
    parameters: Optional[Parameters] = None,
    training: bool = False,
) -> tf.Tensor:
    """The gradient of each example's loss with respect to a perturbation's parameters.

    ```python
    rotation = fr.perturbations.Affine()
    print(fr.perturbation_gradients(model, rotation, images, labels))  # [batch, 4]
    ```

    Args:
      model: a Keras model, from images to logits or probabilities.
      perturbation: the `Perturbation` T(x; θ).
      images: `[batch, height, width, channels]`.
      labels: `[batch]`, or as the loss takes them.
      loss: a Keras loss (instance, function or name); `None` for the one that the model is compiled with.
      parameters: the θ to differentiate at; `None` for the identity.
      training: the mode that the model is run in.

    Returns:
      The gradients, of the shape of θ. Where the perturbation stands for several sides, the gradients of each side are
      stacked in front.

    Raises:
      ValueError: if a shape is not as above, or there is no loss, or the loss has no gradient.
      TypeError: if `model` is not a Keras model, `perturbation` no `Perturbation`, or images or labels are not numbers.
    """
    expect_instance("model", model, keras.Model)
    expect_instance("perturbation", perturbation, Perturbation)
    images, labels = expect_finite(as_images(images)), as_labels(labels)
    expect_same_batch(images, labels)
    expect_images_of(model, images)
    if parameters is not None:
        parameters = expect_finite(tf.cast(parameters, images.dtype), "parameters")
    training = training if tf.is_tensor(training) else expect_boolean("training", training)
    perturbed, pullbacks = linearize(perturbation.sides, images, parameters)
    loss = resolve_loss(loss, compiled_loss(model))
    try:
        _, _, upstream = loss_gradient(model, perturbed, labels, loss, training)
    except LookupError as error:
        raise ValueError(
            "Expected the model's loss to be differentiable with respect to its images. "
            f"Received {model.name}, with an operation that has no derivative: {error}"
        ) from error
    gradients = [pullback(upstream) for pullback in pullbacks]
    return gradients[0] if len(gradients) == 1 else tf.stack(gradients)


def flow_gradients(
    model: KerasModel,
    images: Images,
    labels: Labels,
    loss: Optional[Loss] = None,
    *,
    flow: Optional[FlowField] = None,
    lattice: str = "central",
    gradient: str = "analytic",
    training: bool = False,
) -> tf.Tensor:
    """The gradient of each example's loss with respect to a flow that warps its image.

    ```python
    gradients = fr.flow_gradients(model, images, labels)
    print(tf.norm(gradients, axis=-1))  # how steep the loss is at each pixel
    ```

    Args:
      model: a Keras model, from images to logits or probabilities.
      images: `[batch, height, width, channels]`.
      labels: `[batch]`, or as the loss takes them.
      loss: a Keras loss (instance, function or name); `None` for the one that the model is compiled with.
      flow: the flow to differentiate at, `[batch, height, width, 2]`, `(dy, dx)` in pixels; `None` for zero.
      lattice: the warp's derivative at integer positions: `"forward"`, `"backward"`, `"central"` or `"two_sided"`; see
        `ops.warp`.
      gradient: how it is taken: `"analytic"` in closed form, `"tape"` by a tape through `ops.dense_image_warp`.
      training: the mode that the model is run in.

    Returns:
      `[batch, height, width, 2]`, loss per pixel of displacement. With `lattice="two_sided"` the forward and the backward
      gradients, stacked in front: `[2, batch, height, width, 2]`.

    Raises:
      ValueError: if a shape or an option is not as above, or there is no loss, or the loss has no gradient.
      TypeError: if `model` is not a Keras model, or images or labels are not numbers.
    """
    expect_one_of("gradient", gradient, GRADIENTS)
    perturbation = Flow(lattice) if gradient == "analytic" else TapeLinearized(Flow(lattice))
    return perturbation_gradients(model, perturbation, images, labels, loss, flow, training)


def input_gradients(
    model: KerasModel, images: Images, labels: Labels, loss: Optional[Loss] = None, *, training: bool = False
) -> tf.Tensor:
    """The gradient of each example's loss with respect to its image.

    ```python
    gradients = fr.input_gradients(model, images, labels)
    print(tf.reduce_max(tf.abs(gradients)))
    ```

    Args:
      model: a Keras model, from images to logits or probabilities.
      images: `[batch, height, width, channels]`.
      labels: `[batch]`, or as the loss takes them.
      loss: a Keras loss (instance, function or name); `None` for the one that the model is compiled with.
      training: the mode that the model is run in.

    Returns:
      `[batch, height, width, channels]`, loss per unit of the image's values.

    Raises:
      ValueError: if a shape is not as above, or there is no loss, or the loss has no gradient.
      TypeError: if `model` is not a Keras model, or images or labels are not numbers.
    """
    return perturbation_gradients(model, Additive(), images, labels, loss, training=training)

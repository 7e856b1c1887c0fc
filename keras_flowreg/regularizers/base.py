"""What a regularizer is."""

from typing import ClassVar, Optional

import keras
import tensorflow as tf

from keras_flowreg.ops.losses import ignored_class
from keras_flowreg.ops.matching import expect_images_of
from keras_flowreg.ops.validation import as_images, as_labels, expect_finite, expect_instance, expect_same_batch
from keras_flowreg.types import (
    Config,
    Images,
    KerasModel,
    Labels,
    Loss,
    LossFunction,
    Number,
    PerExample,
    Predictions,
    Scalar,
    Seed,
)


class Regularizer:
    """A term that `FlowRegularizedModel` adds to the loss, and any other training loop can.

    ```python
    regularizer: fr.Regularizer = fr.FlowGradientRegularizer(weight=4.4)
    predictions, penalty = regularizer(model, images, labels)
    total = tf.reduce_mean(model.loss(labels, predictions)) + regularizer.weight * penalty
    ```

    Attributes:
      weight: the factor of the penalty in the total loss.
      epsilon: the radius that it bounds, which a schedule may scale; `None` if there is none.
      penalty_name: of the penalty in the logs.
    """

    weight: float
    epsilon: Optional[float] = None
    penalty_name: ClassVar[str] = "penalty"

    @property
    def needs_second_derivative(self) -> bool:
        """Whether the penalty is a function of the model's gradient, which training differentiates again."""
        return False

    @property
    def needs_same_draws(self) -> bool:
        """Whether the penalty compares two passes of the model over a batch, which have to draw the same noise."""
        return False

    def __call__(
        self,
        model: KerasModel,
        images: Images,
        labels: Labels,
        loss: Optional[Loss] = None,
        *,
        sample_weight: Optional[PerExample] = None,
        training: bool = True,
        seed: Optional[Seed] = None,
        start_scale: Number = 1.0,
    ) -> tuple[Predictions, Scalar]:
        """Runs the model, and computes the penalty.

        Args:
          model: a Keras model, from images to predictions.
          images: `[batch, height, width, channels]`.
          labels: `[batch]`, or as the loss takes them.
          loss: the Keras loss that is trained; `None` for the one that the model is compiled with.
          sample_weight: `[batch]`, the weight of each example's penalty.
          training: the mode that the model is run in. Outside of training the penalty can be repeated.
          seed: two integers, for what is random.
          start_scale: a factor of the random start, or of ε, in training.

        Returns:
          `(predictions, penalty)`: the penalty without its weight, a scalar.
        """
        raise NotImplementedError

    def get_config(self) -> Config:
        raise NotImplementedError


def expect_arguments(
    model: KerasModel, images: Images, labels: Labels, sample_weight: Optional[PerExample]
) -> tuple[tf.Tensor, tf.Tensor, Optional[tf.Tensor]]:
    """Checks that what a call is given fits together; returns images, labels and weights as tensors.

    Raises:
      TypeError: if `model` is not a Keras model, or images or labels are not numbers.
      ValueError: if a shape is another one, or outside of a graph an image is not finite.
    """
    expect_instance("model", model, keras.Model)
    images, labels = as_images(images), as_labels(labels)
    expect_same_batch(images, labels)
    expect_images_of(model, images)
    if tf.executing_eagerly():  # In a graph whoever makes it checks values: a check here would be the second one.
        expect_finite(images)
    if sample_weight is not None:
        sample_weight = tf.convert_to_tensor(sample_weight)
        expect_same_batch(images, sample_weight, "weight")
    return images, labels, sample_weight


def without_ignored(labels: Labels, loss: Optional[LossFunction]) -> Labels:
    """Labels for a loss that ignores none: 0 where the one that is trained ignores it. `mean_penalty` leaves those out."""
    ignored = ignored_class(loss)
    return (
        labels if ignored is None else tf.where(labels == tf.cast(ignored, labels.dtype), tf.zeros_like(labels), labels)
    )


def mean_penalty(
    penalties: PerExample, labels: Labels, loss: Optional[LossFunction], sample_weight: Optional[PerExample]
) -> Scalar:
    """The mean of the examples' penalties, weighted as Keras weights its loss. That of no examples is 0.

    Args:
      penalties: `[batch]`.
      labels: those of the examples.
      loss: the one that is trained. Examples whose label it ignores do not count.
      sample_weight: `[batch]`, or `None`.
    """
    ignored, weights = ignored_class(loss), tf.ones_like(penalties)
    if ignored is not None:
        weights = tf.cast(tf.reshape(labels, [-1]) != tf.cast(ignored, labels.dtype), penalties.dtype)
    counted = tf.reduce_sum(weights)
    if sample_weight is not None:
        weights *= tf.reshape(tf.cast(sample_weight, penalties.dtype), [-1])
        if getattr(loss, "reduction", None) == "mean_with_sample_weight":
            counted = tf.reduce_sum(weights)
    # A replica may get no examples of a last batch.
    return tf.math.divide_no_nan(tf.reduce_sum(weights * penalties), counted)

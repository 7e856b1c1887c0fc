"""Gradient regularization: a penalty on the gradient of the loss with respect to a perturbation.

    penalty = mean over examples b of ‖∂loss_b/∂θ_b‖²

at the identity, or at a random start near it, where loss_b is the loss of example b alone. So the penalty does not change
with the batch size, the number of replicas, or the reduction of the loss. Some layers mix the examples of a batch, as
BatchNormalization does in training. Then the gradient is that of the batch's summed loss.

The gradient of a cross-entropy is (1 - p) times that of the log-odds, log((1 - p) / p), where p is the label's probability.
So a penalty on it loses hold of the examples of which the model is sure. A penalty on the gradient of the log-odds does not.
docs/ablation.md has what that changes.
"""

import contextlib
from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg.augmentation import after_augmentation
from keras_flowreg.gradients import GRADIENTS, linearize, loss_gradient
from keras_flowreg.ops.losses import compiled_loss, deserialize_loss, expect_loss, per_example_loss, resolve_loss
from keras_flowreg.ops.matching import expect_within_images
from keras_flowreg.ops.validation import (
    as_seed_pair,
    expect_instance,
    expect_not_negative,
    expect_one_of,
    expect_positive,
)
from keras_flowreg.perturbations import Flow, Perturbation, TapeLinearized
from keras_flowreg.regularizers.base import Regularizer, expect_arguments, mean_penalty, without_ignored
from keras_flowreg.regularizers.penalties import GRADIENT_NORMS, penalty_by_finite_difference, penalty_of
from keras_flowreg.states import has_losses_of_activations, passes_over_one_batch, statistics
from keras_flowreg.types import Config, Images, KerasModel, Labels, Loss, Number, PerExample, Predictions, Scalar, Seed

GRADIENT_PLACES = ("start", "identity")
METHODS = ("exact", "finite_difference")
MODEL_MODES = ("training", "inference")


@keras.saving.register_keras_serializable(package="keras_flowreg")
class GradientRegularizer(Regularizer):
    """Penalizes the gradient of the loss with respect to any perturbation.

    It is a plain callable, which any training loop can use:

    ```python
    regularizer = fr.GradientRegularizer(fr.perturbations.SmoothFlow(control_points=3), weight=4.4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        predictions, penalty = regularizer(model, images, labels, loss)
        total = tf.reduce_mean(loss(labels, predictions)) + regularizer.weight * penalty
    ```

    Random augmentation layers at the model's front (RandomCrop, RandomContrast ...) run first, as in Keras. The penalty is
    taken on the images that they give, so that they need no derivative.

    Args:
      perturbation: the `Perturbation` T(x; θ).
      weight: the factor of the penalty in the total loss, not negative.
      loss: the loss whose gradient is penalized. `None` stands for the one that is trained, as in the paper. `"log_odds"`
        stands for its log-odds (see `ops.LogOddsLoss`), and asks for another weight. Every other loss that
        `attacks.Attack` takes can be given too.
      random_start: the standard deviation of the normal start of θ in training, in θ's units; 0 for none. The predictions
        are then those of the started images. So the start is an augmentation too, as in the authors' code, and the model
        is run once.
      gradient_at: where the gradient is taken: `"start"` for ∂loss/∂θ at θ = start, `"identity"` for θ = 0 on the started
        images, as the authors do.
      gradient_norm: the norm that is penalized: `"squared_l2"`, as in the paper, `"l2"` or `"l1"`. The last two are the
        dual norms of an ℓ2 and an ℓ∞ ball: the first-order rise of the loss in a ball of radius 1.
      gradient: how the gradient is taken: `"analytic"` by the perturbation's own pullback, `"tape"` by a tape through its
        `apply`.
      method: how the penalty is differentiated with respect to the model's weights. `"exact"` is double backpropagation.
        `"finite_difference"` takes the difference of two losses, at θ and a step away, so that no operation needs a second
        derivative. The penalty's value is the same. At a kink of the warp, it is the slope of the side that the step goes
        to.
      step: the size of that step: its largest component, in θ's units.
      model_mode: the mode of the model in which the penalized gradient is taken in training. `"training"` takes it in the
        pass that also gives the predictions, as the authors do. `"inference"` takes it in a pass of its own, with
        BatchNormalization's moving averages and without dropout, as an attacker meets the model.
      fraction: the part of each training batch, from its first example, on which the penalty is taken. It is an estimate
        of the whole. The part and the rest are run apart, so that BatchNormalization sees two smaller batches, and a model
        with losses of its activations is refused.

    Raises:
      ValueError: if the weight or the random start is negative or not finite, another number is out of its
        range, or an option is unknown.
      TypeError: if `perturbation` is not a `Perturbation`.

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021. They
    differentiate a batch's mean loss in normalized coordinates; `weight_from_paper` converts their weight. For the finite
    difference, Finlay and Oberman, "Scaleable input gradient regularization for adversarial robustness", 2021.
    """

    penalty_name = "gradient_penalty"

    def __init__(
        self,
        perturbation: Perturbation,
        weight: float,
        *,
        loss: Optional[Loss] = None,
        random_start: float = 0.0,
        gradient_at: str = "start",
        gradient_norm: str = "squared_l2",
        gradient: str = "analytic",
        method: str = "exact",
        step: float = 0.01,
        model_mode: str = "training",
        fraction: float = 1.0,
    ):
        self.perturbation = expect_instance("perturbation", perturbation, Perturbation)
        self.weight = expect_not_negative("weight", weight)
        self.loss = expect_loss(loss)
        self.random_start = expect_not_negative("random_start", random_start)
        self.gradient_at = expect_one_of("gradient_at", gradient_at, GRADIENT_PLACES)
        self.gradient_norm = expect_one_of("gradient_norm", gradient_norm, GRADIENT_NORMS)
        self.gradient = expect_one_of("gradient", gradient, GRADIENTS)
        self.method = expect_one_of("method", method, METHODS)
        self.step = expect_positive("step", step)
        self.model_mode = expect_one_of("model_mode", model_mode, MODEL_MODES)
        self.fraction = expect_positive("fraction", fraction)
        if self.fraction > 1:
            raise ValueError(f"Expected `fraction` to be at most 1. Received {fraction!r}.")

    @property
    def needs_second_derivative(self) -> bool:
        return self.method == "exact"

    @property
    def needs_same_draws(self) -> bool:
        return self.method == "finite_difference"

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
        """Runs the model once on each image, and computes the penalty.

        Args:
          model: a Keras model, from images to predictions.
          images: `[batch, height, width, channels]`.
          labels: `[batch]`, or as the loss takes them.
          loss: the Keras loss that is trained; `None` for the one that the model is compiled with.
          sample_weight: `[batch]`, the weight of each example's penalty, as Keras weights its loss.
          training: the mode that the model is run in. Outside of training there is no random start, so that the penalty
            can be repeated.
          seed: two integers for the random start; `None` draws from TensorFlow's global generator.
          start_scale: a factor of the random start; 0 for no start.

        Returns:
          `(predictions, penalty)`: the predictions for the images with their random start, and the penalty without its
          weight, a scalar in float32, or float64 for float64 images.

        Raises:
          ValueError: if a shape is not as above, or there is no loss, or the loss has no gradient.
          TypeError: if the images are not numbers.
        """
        images, labels, sample_weight = expect_arguments(model, images, labels, sample_weight)
        loss = compiled_loss(model) if loss is None else resolve_loss(loss)
        if isinstance(self.perturbation, Flow):
            expect_within_images("random_start", self.random_start, images)
        if not training or self.fraction == 1:
            return self._of_all(model, images, labels, loss, sample_weight, training, seed, start_scale)
        count = tf.maximum(whole_examples(self.fraction, images), 1)
        weights = None if sample_weight is None else sample_weight[:count]
        before = statistics(model)
        predictions, penalty = self._of_all(
            model, images[:count], labels[:count], loss, weights, training, seed, start_scale
        )
        if has_losses_of_activations(model):
            raise ValueError(
                "Expected `fraction` to be 1 for a model with losses of its activations (`activity_regularizer`, `add_loss`), "
                f"which are those of one pass over the whole batch. Received {self.fraction:g}."
            )
        of_part = statistics(model)
        before.restore()
        # The rest is never empty, which BatchNormalization could not average.
        first = tf.minimum(count, tf.shape(images)[0] - 1)
        others = model(images[first:], training=training)
        # A replica may get no examples of a last batch.
        part = tf.math.divide_no_nan(*(tf.cast(number, tf.float32) for number in (count, tf.shape(images)[0])))
        of_part.mix_in(part)
        return tf.concat([predictions[:first], others], axis=0), penalty

    def _of_all(self, model, images, labels, loss, sample_weight, training, seed, start_scale):
        """The predictions and the penalty of a whole batch, for the loss that is trained."""
        penalized, known = resolve_loss(self.loss, loss), without_ignored(labels, loss)
        if training:
            model, images = after_augmentation(model, images)
        images, parameters = self._start(images, training, seed, start_scale)
        perturbed, pullbacks = linearize(self._sides(parameters), images, parameters)
        mode = training and self.model_mode == "training"
        with self._passes(model) as passes:
            predictions, losses, upstream = loss_gradient(model, perturbed, known, penalized, mode)

            def losses_after(step):
                moved = self.perturbation.apply(images, step if parameters is None else parameters + step)
                with passes.another():
                    return per_example_loss(penalized, known, model(moved, training=mode))

            penalties = [self._penalties(pullback(upstream), losses, losses_after) for pullback in pullbacks]
            if self.method != "exact" and has_losses_of_activations(model):
                with passes.another():  # A model's losses are those of its last pass.
                    model(perturbed, training=mode)
        if mode != training:
            predictions = model(perturbed, training=training)
        return predictions, mean_penalty(tf.add_n(penalties) / len(pullbacks), labels, loss, sample_weight)

    def _passes(self, model):
        """The scope of the passes over one batch, if there are several."""
        return contextlib.nullcontext() if self.method == "exact" else passes_over_one_batch(model)

    def _penalties(self, gradients, losses, losses_after):
        if self.method == "exact":
            return penalty_of(gradients, self.gradient_norm)
        return penalty_by_finite_difference(gradients, self.gradient_norm, losses, losses_after, self.step)

    def _start(self, images, training, seed, scale):
        """The images and the θ that the gradient is taken at; `None` for the identity."""
        if not (training and self.random_start):
            return images, None
        start = self.perturbation.random_start(images, self.random_start, _seed(seed))
        start *= tf.cast(scale, start.dtype)
        if self.gradient_at == "identity":
            return self.perturbation.apply(images, start), None
        return images, start

    def _sides(self, parameters):
        """The perturbations whose penalties are averaged."""
        perturbation = self.perturbation if self.gradient == "analytic" else TapeLinearized(self.perturbation)
        # A random start is off the lattice, where all sides agree.
        return perturbation.sides if parameters is None else perturbation.sides[:1]

    def get_config(self) -> Config:
        return {
            "perturbation": keras.saving.serialize_keras_object(self.perturbation),
            "weight": self.weight,
            "loss": keras.saving.serialize_keras_object(self.loss),
            "random_start": self.random_start,
            "gradient_at": self.gradient_at,
            "gradient_norm": self.gradient_norm,
            "gradient": self.gradient,
            "method": self.method,
            "step": self.step,
            "model_mode": self.model_mode,
            "fraction": self.fraction,
        }

    @classmethod
    def from_config(cls, config: Config) -> "GradientRegularizer":
        config = {**config, "loss": deserialize_loss(config["loss"])}
        if "perturbation" in config:
            config["perturbation"] = keras.saving.deserialize_keras_object(config["perturbation"])
        return cls(**config)


def whole_examples(fraction: float, images: Images) -> Scalar:
    """How many examples a fraction of a batch has, rounded to a whole number."""
    return tf.cast(tf.round(fraction * tf.cast(tf.shape(images)[0], tf.float32)), tf.int32)


def _seed(seed):
    if seed is None:
        return tf.random.uniform([2], minval=0, maxval=tf.int32.max, dtype=tf.int32)
    return as_seed_pair(seed)

"""Consistency along the flow gradient: what a model says must not change where its loss rises fastest."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.augmentation import after_augmentation
from keras_flowreg.gradients import loss_gradient, widened
from keras_flowreg.ops.divergence import kl_divergence
from keras_flowreg.ops.linear_maximization import extreme_displacements, maximizing_flow
from keras_flowreg.ops.losses import compiled_loss, resolve_loss
from keras_flowreg.ops.matching import expect_one_output, expect_within_images
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of
from keras_flowreg.ops.warp import dense_image_warp
from keras_flowreg.regularizers.base import Regularizer, expect_arguments, mean_penalty, without_ignored
from keras_flowreg.states import has_losses_of_activations, passes_over_one_batch
from keras_flowreg.types import Config, Images, KerasModel, Labels, Loss, Number, PerExample, Predictions, Scalar, Seed


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowConsistencyRegularizer(Regularizer):
    """Penalizes by how much predictions change along the worst flow of the linearized model.

        penalty = mean over examples of KL(p(x) ‖ p(T(x; f))),    f = argmax over the ball of <∂loss/∂x, T(x; ·)>

    where p are the probabilities that the model gives, and f is what one step of `attacks.FlowFrankWolfe` finds. The gradient
    that gives it is taken in the pass that also gives the predictions, and a second pass goes over the moved images. So the
    task is trained on the images as they are. No operation needs a second derivative.

    ```python
    regularized = fr.FlowRegularizedModel(model, fr.FlowConsistencyRegularizer(epsilon=0.4))
    regularized.compile("sgd", model.loss)
    warmups = [fr.callbacks.PenaltyWarmup(epochs=1), fr.callbacks.EpsilonWarmup(epochs=1)]
    regularized.fit(images, labels, epochs=2, verbose=0, callbacks=warmups)
    ```

    Both passes draw the same masks and noise, and the first one alone counts for moving statistics. Random augmentation layers
    at the model's front run first. A smaller ε, which `EpsilonWarmup` sets, is that part of each pixel's displacement.

    Args:
      epsilon: the radius of the ball, in pixels.
      weight: the factor of the penalty in the total loss, not negative.
      norm: `"linf"` or `"pixel_l2"`; see `attacks.FlowPGD`.

    Raises:
      ValueError: if an option is out of its range or unknown; in training, if the loss is no cross-entropy, or has no gradient
        with respect to the images.

    Reference: Zhang et al., "Theoretically principled trade-off between robustness and accuracy" (TRADES), 2019, for the
    divergence. They search it for noise in ten steps from a random start; here one step raises the trained loss.
    """

    epsilon: float
    penalty_name = "consistency_penalty"

    def __init__(self, epsilon: float, weight: float = 1.0, *, norm: str = "linf"):
        self.epsilon = expect_not_negative("epsilon", epsilon)
        self.weight = expect_not_negative("weight", weight)
        self.norm = expect_one_of("norm", norm, balls.PER_PIXEL_NORMS)

    @property
    def needs_same_draws(self) -> bool:
        return True

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
        """Runs the model on each image, and on what the worst flow makes of it. See `Regularizer`; nothing is drawn."""
        images, labels, sample_weight = expect_arguments(model, images, labels, sample_weight)
        expect_within_images("epsilon", self.epsilon, images)
        loss = resolve_loss(loss, compiled_loss(model) if loss is None else None)
        if training:
            model, images = after_augmentation(model, images)
        with passes_over_one_batch(model) as passes:
            predictions, _, upstream = loss_gradient(model, images, without_ignored(labels, loss), loss, training)
            moved = self._moved(images, upstream, start_scale if training else 1.0)
            with passes.another():
                predictions_after = expect_one_output(model(moved, training=training))
            divergences = kl_divergence(loss, widened(predictions, images), widened(predictions_after, images))
            if has_losses_of_activations(model):
                with passes.another():  # A model's losses are those of its last pass.
                    model(images, training=training)
        return predictions, mean_penalty(divergences, labels, loss, sample_weight)

    def _moved(self, images, upstream, scale):
        """The images, moved by a part of the worst flow. No gradient goes through the search."""
        displacements = extreme_displacements(self.norm, self.epsilon)
        flow, _ = maximizing_flow(images, tf.stop_gradient(upstream), displacements, self.epsilon)
        return tf.stop_gradient(dense_image_warp(images, tf.cast(scale, flow.dtype) * flow))

    def get_config(self) -> Config:
        return {"epsilon": self.epsilon, "weight": self.weight, "norm": self.norm}

    @classmethod
    def from_config(cls, config: Config) -> "FlowConsistencyRegularizer":
        return cls(**config)

"""Certified training: the loss is trained at its upper bound over every flow in a ball."""

from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.leads import class_indices, lead_forms, logits_of_leads
from keras_flowreg.certification.network import Network
from keras_flowreg.certification.reach import reach
from keras_flowreg.ops.losses import compiled_loss, deserialize_loss, expect_loss, per_example_loss, resolve_loss
from keras_flowreg.ops.matching import expect_images_of
from keras_flowreg.ops.validation import (
    as_images,
    as_labels,
    expect_instance,
    expect_not_negative,
    expect_one_of,
    expect_same_batch,
)
from keras_flowreg.regularizers.regularizer import Regularizer, mean_penalty
from keras_flowreg.types import Config, Images, KerasModel, Labels, Loss, Number, PerExample, Predictions, Scalar, Seed


@keras.saving.register_keras_serializable(package="keras_flowreg")
class IntervalBoundRegularizer(Regularizer):
    """Certified training by interval bounds: penalizes by how much a flow may raise the loss, at most.

        penalty = mean over examples of loss(worst logits) - loss(logits)

    The worst logits are bounds over every flow in the ball (see `certify`, method `"ibp"`), so that the penalty is too. With
    the weight w the total is (1 - w) · loss + w · bound: w = 1 trains on the bound alone, w = 0 plainly. Such a network is
    less accurate than others, and a large part of what it classifies rightly can be certified.

    Without a schedule nothing is learned: raise the weight and ε from zero, over half of the epochs. It is
    for networks of few layers. `certification.initialize` gives them weights that keep intervals narrow at the start.

    ```python
    fr.certification.initialize(model)
    regularized = fr.FlowRegularizedModel(model, fr.IntervalBoundRegularizer(epsilon=0.4))
    regularized.compile("adam", model.loss)
    warmups = [fr.callbacks.PenaltyWarmup(epochs=1), fr.callbacks.EpsilonWarmup(epochs=1)]
    regularized.fit(images, labels, epochs=2, verbose=0, callbacks=warmups)
    ```

    In training, batch normalization takes the statistics of the images without a flow, and nothing is dropped on the way of
    the bounds. A smaller ε stands for the same part of each pixel's interval.

    Args:
      epsilon: the radius of the ball, in pixels.
      weight: the factor of the penalty in the total loss, not negative.
      norm: `"linf"` or `"pixel_l2"`; see `attacks.FlowPGD`.
      loss: the loss that is bounded, one that does not fall as the label's leads over the other classes get smaller, such as a
        cross-entropy; `None` for the one that is trained.

    Raises:
      ValueError: if an option is out of its range or unknown; in training, if a layer has no rule for bounds.

    Reference: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably robust models", 2018;
    for the statistics of batch normalization, Shi et al., "Fast certified robust training with short warmup", 2021.
    """

    epsilon: float
    penalty_name = "interval_penalty"

    def __init__(self, epsilon: float, weight: float = 1.0, *, norm: str = "linf", loss: Optional[Loss] = None):
        self.epsilon = expect_not_negative("epsilon", epsilon)
        self.weight = expect_not_negative("weight", weight)
        self.norm = expect_one_of("norm", norm, balls.PER_PIXEL_NORMS)
        self.loss = expect_loss(loss)

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
        """Runs the model, and bounds the rise of its loss. See `Regularizer`; `start_scale` is a factor of ε."""
        expect_instance("model", model, keras.Model)
        images, labels = as_images(images), as_labels(labels)
        loss = resolve_loss(self.loss, compiled_loss(model) if loss is None else resolve_loss(loss))
        expect_same_batch(images, labels)
        expect_images_of(model, images)
        predictions = model(images, training=training)
        scale = start_scale if training else 1.0
        worst = self._worst_predictions(model, tf.cast(images, tf.float32), labels, training, scale)
        rises = per_example_loss(loss, labels, worst) - per_example_loss(loss, labels, predictions)
        return predictions, mean_penalty(rises, sample_weight)

    def _worst_predictions(self, model, images, labels, training, scale):
        network = Network(getattr(model, "base_model", model))
        if training:
            network = network.in_training(images)
        whole = reach(images, self.epsilon, self.norm)
        scale = tf.cast(scale, images.dtype)
        box = Interval(*(images + scale * (end - images) for end in whole.box))
        bounds = Bounds(network, whole._replace(box=box, displaced=None))
        indices = class_indices(labels, bounds.logits.low)
        leads = bounds.minimum_by_intervals(lead_forms(indices, bounds.logits.low.shape[1]))
        return network.predictions(logits_of_leads(leads, indices))

    def get_config(self) -> Config:
        return {
            "epsilon": self.epsilon,
            "weight": self.weight,
            "norm": self.norm,
            "loss": keras.saving.serialize_keras_object(self.loss),
        }

    @classmethod
    def from_config(cls, config: Config) -> "IntervalBoundRegularizer":
        return cls(**{**config, "loss": deserialize_loss(config["loss"])})

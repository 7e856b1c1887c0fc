"""Certified training: the loss is trained at its upper bound over every flow in a ball."""

from collections.abc import Sequence
from typing import Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.augmentation import after_augmentation
from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.leads import class_indices
from keras_flowreg.certification.network import Network
from keras_flowreg.certification.reach import Reach, reach
from keras_flowreg.ops.labels import expect_certain
from keras_flowreg.ops.losses import (
    compiled_loss,
    deserialize_loss,
    expect_loss,
    ignored_class,
    per_example_loss,
    resolve_loss,
)
from keras_flowreg.ops.matching import with_known_sizes
from keras_flowreg.ops.validation import (
    expect_fraction,
    expect_not_negative,
    expect_one_of,
    expect_positive,
    expect_positive_integer,
)
from keras_flowreg.regularizers.base import Regularizer, expect_arguments, mean_penalty
from keras_flowreg.regularizers.bound_penalties import balance_penalty, tightness_penalty
from keras_flowreg.regularizers.small_box import small_box
from keras_flowreg.regularizers.worst_logits import expect_monotone, worst_logits
from keras_flowreg.types import Config, Images, KerasModel, Labels, Loss, Number, PerExample, Predictions, Scalar, Seed
from keras_flowreg.wrapped import classifier_of


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

    Random augmentation layers at the model's front run first, and the bounds are those of the images that they give. In
    training, batch normalization takes the statistics of the images without a flow, and nothing is dropped on the way of
    the bounds. A smaller ε stands for the same part of each pixel's interval: `EpsilonWarmup` raises it from 0 to 1. Three
    options change what is trained on, and not what validation shows, which is the bound by intervals at the whole radius:

    - `crown_ibp=(1, 0)` mixes in the bound of `certify`'s `"crown_ibp"`, which is tighter at first: all of it at radius zero,
      none at the whole one.
    - `warmup_weight=0.5` also penalizes intervals that get wider in the network, and ReLUs that are mostly active, or mostly
      inactive, less and less as the radius rises. A penalty's warm-up holds it back: leave `PenaltyWarmup` out.
    - `box_part=0.4` bounds a small box around what gradient steps find in the whole one. The network is more accurate, but
      then only `"crown"` or `"auto"` may prove much of it.

    ```python
    mixed = fr.IntervalBoundRegularizer(epsilon=0.4, crown_ibp=(1, 0), warmup_weight=0.5)
    small_boxes = fr.IntervalBoundRegularizer(epsilon=0.4, box_part=0.4)
    predictions, penalty = small_boxes(model, images, labels)
    ```

    Args:
      epsilon: the radius of the ball, in pixels.
      weight: the factor of the penalty in the total loss, not negative.
      norm: `"linf"` or `"pixel_l2"`; see `attacks.FlowPGD`.
      loss: the loss that is bounded, one that does not fall as the label's leads over the other classes get smaller, such as a
        cross-entropy; `None` for the one that is trained. A binary cross-entropy or a hinge of several outputs, or any loss of
        several sigmoids, is bounded at the least of the label's logit and the greatest of each other one.
      crown_ibp: the part of CROWN-IBP in the mix of bounds, β: at radius zero, and at the whole radius.
      warmup_weight: λ, the weight of the penalties on bounds at radius zero. It falls to 0 at the whole radius.
      box_part: τ, the width of the box that is bounded as a part of what the flows can reach, more than 0; 1 for all of it.
      attack_steps: the signed gradient steps to the middle of that box.

    Raises:
      ValueError: if an option is out of its range or unknown; in training, if a layer has no rule for bounds, if a loss of Keras may
        fall as the label's leads get smaller, such as the mean squared error of logits or a loss with label smoothing, or is a
        sum over the batch, or if several classes share a label (in a graph: InvalidArgumentError).

    Reference: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably robust models", 2018.
    Zhang et al., "Towards stable and efficient training of verifiably robust neural networks" (CROWN-IBP), 2020. Shi et al.,
    "Fast certified robust training with short warmup", 2021, for the penalties and the statistics of batch normalization.
    Müller et al., "Certified training: small boxes are all you need" (SABR), 2023; here its attack begins at the images, and
    the box is sent through ReLUs as it is.
    """

    epsilon: float
    penalty_name = "interval_penalty"

    def __init__(
        self,
        epsilon: float,
        weight: float = 1.0,
        *,
        norm: str = "linf",
        loss: Optional[Loss] = None,
        crown_ibp: Sequence[float] = (0.0, 0.0),
        warmup_weight: float = 0.0,
        box_part: float = 1.0,
        attack_steps: int = 8,
    ):
        self.epsilon = expect_not_negative("epsilon", epsilon)
        self.weight = expect_not_negative("weight", weight)
        self.norm = expect_one_of("norm", norm, balls.PER_PIXEL_NORMS)
        self.loss = expect_loss(loss)
        if not (isinstance(crown_ibp, (tuple, list)) and len(crown_ibp) == 2):
            raise ValueError(f"Expected `crown_ibp` to be two fractions. Received {crown_ibp!r}.")
        self.crown_ibp = tuple(expect_fraction("crown_ibp", part) for part in crown_ibp)
        self.warmup_weight = expect_not_negative("warmup_weight", warmup_weight)
        self.box_part = expect_positive("box_part", expect_fraction("box_part", box_part))
        self.attack_steps = expect_positive_integer("attack_steps", attack_steps)

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
        images, labels, sample_weight = expect_arguments(model, images, labels, sample_weight)
        loss = resolve_loss(self.loss, compiled_loss(model) if loss is None else resolve_loss(loss))
        images = with_known_sizes(model, images)
        if training:  # Bounds are those of the images that an augmentation gives.
            model, images = after_augmentation(model, images)
        predictions = model(images, training=training)
        images = tf.cast(images, tf.float32)
        network = Network(classifier_of(model), images.shape[1:])
        expect_monotone(network, loss)
        if training:
            network = network.in_training(images)
        scale = tf.cast(start_scale if training else 1.0, tf.float32)

        def losses(predictions):
            return per_example_loss(loss, labels, predictions)

        def losses_of(images):
            return losses(network.values(images)[network.output])

        box = self._box(images, scale)
        if training and self.box_part < 1:
            box = small_box(box, images, self.box_part, losses_of, self.attack_steps)
        bounds = Bounds(network, Reach(box), rounding=0.0)
        rises = losses(self._worst_predictions(network, bounds, loss, labels, scale)) - losses(predictions)
        penalty = mean_penalty(rises, labels, loss, sample_weight)
        if self.warmup_weight:
            others = tightness_penalty(box, bounds.before_relus) + balance_penalty(bounds.before_relus)
            penalty += self.warmup_weight * (1 - scale) * others
        return predictions, penalty

    def _box(self, images, scale):
        whole = reach(images, self.epsilon, self.norm).box
        return Interval(*(images + scale * (end - images) for end in whole))

    def _worst_predictions(self, network, bounds, loss, labels, scale):
        def minimum(forms):
            least = bounds.minimum_by_intervals(forms)
            if not any(self.crown_ibp):
                return least
            start, end = self.crown_ibp
            part = start + (end - start) * scale
            return tf.cond(part > 0, lambda: part * bounds.minimum(forms) + (1 - part) * least, lambda: least)

        classes = bounds.logits.low.shape[1]
        indices = class_indices(expect_certain(labels, classes), bounds.logits.low, ignored_class(loss))
        return network.predictions(worst_logits(network, loss, indices, minimum, classes))

    def get_config(self) -> Config:
        return {
            "epsilon": self.epsilon,
            "weight": self.weight,
            "norm": self.norm,
            "loss": keras.saving.serialize_keras_object(self.loss),
            "crown_ibp": list(self.crown_ibp),
            "warmup_weight": self.warmup_weight,
            "box_part": self.box_part,
            "attack_steps": self.attack_steps,
        }

    @classmethod
    def from_config(cls, config: Config) -> "IntervalBoundRegularizer":
        return cls(**{**config, "loss": deserialize_loss(config["loss"])})

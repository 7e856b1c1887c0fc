"""How the commands train: by gradient descent with momentum or Adam, and a warmed-up penalty and attack."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional, Union

import keras

import keras_flowreg as fr
from keras_flowreg.commands import architectures
from keras_flowreg.commands.datasets import Dataset

if TYPE_CHECKING:
    from keras_flowreg.commands.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
      epochs: how often each training example is seen.
      learning_rate: the learning rate at the start; without milestones it falls to zero along half a cosine.
      milestones: epochs after each of which the learning rate is divided by ten.
      optimizer: `"sgd"` or `"adam"`.
      momentum: the momentum of `"sgd"`.
      weight_decay: the part of each weight that a step takes away, times the learning rate; 0 for none.
      clip_norm: the longest that the gradient of all weights together may be; `None` for any length. The penalty of a
        few hard examples can be very steep, and one such step can collapse the network to a constant.
      warmup: the fraction of the epochs over which the penalty's weight and radius, and the attack's flows, rise.
    """

    epochs: int = 10
    learning_rate: float = 0.05
    milestones: tuple[int, ...] = ()
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: Optional[float] = 1.0
    warmup: float = 0.5


def cross_entropy(label_smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss of logits and class indices."""
    if label_smoothing:
        return fr.ops.SmoothedSparseCategoricalCrossentropy(label_smoothing, from_logits=True)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build_model(
    dataset: Dataset, recipe: "Recipe", *, architecture: str, width: float, batch_size: int, seed: int
) -> fr.FlowRegularizedModel:
    """Builds a classifier with logits, compiled to be trained.

    The order of the examples depends on Keras's random seed too, as it is when the data set is loaded: set it before.

    Args:
      dataset: the `datasets.Dataset` to train on.
      recipe: the `recipes.Recipe` to train by.
      architecture: the network, one of `architectures.NAMES`.
      width: multiplies the network's channels.
      batch_size: examples in a batch of `dataset.train`.
      seed: of the weights, the penalty's starts and the attack's. Keras's random seed is set to it.

    Returns:
      A compiled `fr.FlowRegularizedModel`.
    """
    keras.utils.set_random_seed(seed)
    network = architectures.build(
        architecture, dataset.image_shape, dataset.num_classes, width=width, activation=recipe.activation
    )
    model = recipe.build(network, seed)
    optimizer = _optimizer(recipe.schedule, steps_per_epoch=math.ceil(dataset.train_examples / batch_size))
    model.compile(optimizer, cross_entropy(recipe.label_smoothing), metrics=["accuracy"])
    return model


def fit(
    model: fr.FlowRegularizedModel,
    dataset: Dataset,
    schedule: Schedule,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: Union[int, str] = "auto",
) -> keras.callbacks.History:
    """Trains a compiled `FlowRegularizedModel`, with warm-ups; returns Keras's `History`."""
    warmup, warmups = schedule.warmup * schedule.epochs, []
    if model.regularizer is not None:
        # Penalties on bounds are for the start: the weight would hold them back.
        if not getattr(model.regularizer, "warmup_weight", 0.0):
            warmups.append(fr.callbacks.PenaltyWarmup(warmup))
        if model.regularizer.epsilon is not None:
            warmups.append(fr.callbacks.EpsilonWarmup(warmup))
    if model.attack is not None:
        warmups.append(fr.callbacks.AttackWarmup(warmup))
    return model.fit(
        dataset.train,
        validation_data=dataset.validation,
        epochs=schedule.epochs,
        # The order is restored after the backup, which says how far the training was.
        callbacks=[*callbacks, *warmups, fr.callbacks.RestoreOrder(dataset.train)],
        verbose=verbose,
    )


def _optimizer(schedule, steps_per_epoch):
    options = {
        "learning_rate": _learning_rate(schedule, steps_per_epoch),
        "weight_decay": schedule.weight_decay or None,
        "global_clipnorm": schedule.clip_norm,
    }
    if schedule.optimizer == "adam":
        return keras.optimizers.Adam(**options)
    return keras.optimizers.SGD(momentum=schedule.momentum, **options)


def _learning_rate(schedule, steps_per_epoch):
    schedules = keras.optimizers.schedules
    if not schedule.milestones:
        return schedules.CosineDecay(schedule.learning_rate, schedule.epochs * steps_per_epoch)
    boundaries = [epoch * steps_per_epoch for epoch in schedule.milestones]
    rates = [schedule.learning_rate / 10**drops for drops in range(len(boundaries) + 1)]
    return schedules.PiecewiseConstantDecay(boundaries, rates)

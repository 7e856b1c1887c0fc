"""How the examples train: stochastic gradient descent with momentum along a cosine, and a warmed-up penalty."""

import dataclasses
import math

import keras

import keras_flowreg as fr


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
      epochs: passes over the training examples.
      learning_rate: at the start; it falls to zero along half a cosine.
      momentum: of the gradient descent.
      weight_decay: decoupled, each step; 0 for none.
      clip_norm: the longest gradient of all weights together. The penalty of a few hard examples can be very
        steep, and one such step can collapse the network to a constant.
      warmup: the fraction of the epochs over which the penalty's weight rises.
    """

    epochs: int = 10
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    warmup: float = 0.5


def compile_model(model, dataset, schedule, batch_size):
    """Compiles a classifier with logits for `schedule` on a `datasets.Dataset`."""
    steps = schedule.epochs * math.ceil(dataset.train_examples / batch_size)
    optimizer = keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(schedule.learning_rate, steps),
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay or None,
        global_clipnorm=schedule.clip_norm,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])


def fit(model, dataset, schedule, callbacks=(), verbose="auto"):
    """Trains a compiled `FlowRegularizedModel`, with the penalty's warm-up; returns Keras's `History`."""
    callbacks = list(callbacks)
    if model.regularizer is not None:
        callbacks.append(fr.callbacks.PenaltyWarmup(schedule.warmup * schedule.epochs))
    return model.fit(
        dataset.train,
        validation_data=dataset.validation,
        epochs=schedule.epochs,
        callbacks=callbacks,
        verbose=verbose,
    )

"""How the examples train: stochastic gradient descent with momentum, and a warmed-up penalty and attack."""

import dataclasses
import math
from typing import Optional

import keras
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg import compat

# Keras 3 makes another one at the end of each epoch, and does not use it.
_ITERATORS_PER_EPOCH = 2 if compat.KERAS_3 else 1


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
      epochs: passes over the training examples.
      learning_rate: at the start; it falls to zero along half a cosine, if there are no milestones.
      milestones: epochs after each of which the learning rate is divided by ten.
      momentum: of the gradient descent.
      weight_decay: decoupled, each step; 0 for none.
      clip_norm: the longest gradient of all weights together; `None` for any. The penalty of a few hard
        examples can be very steep, and one such step can collapse the network to a constant.
      warmup: the fraction of the epochs over which the penalty's weight and the attack's flows rise.
    """

    epochs: int = 10
    learning_rate: float = 0.05
    milestones: tuple[int, ...] = ()
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: Optional[float] = 1.0
    warmup: float = 0.5


@keras.saving.register_keras_serializable(package="keras_flowreg_examples")
class SmoothedSparseCategoricalCrossentropy(keras.losses.Loss):
    """`SparseCategoricalCrossentropy` with label smoothing, which Keras has for one-hot labels only.

    Args:
      label_smoothing: the part of each label's probability that is shared among all classes.
      from_logits: whether the predictions are logits; else probabilities.
    """

    def __init__(self, label_smoothing, from_logits=False, name="smoothed_sparse_categorical_crossentropy", **options):
        super().__init__(name=name, **options)
        self.label_smoothing, self.from_logits = label_smoothing, from_logits

    def call(self, y_true, y_pred):
        one_hot = tf.one_hot(tf.cast(tf.reshape(y_true, [-1]), tf.int32), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=self.from_logits, label_smoothing=self.label_smoothing
        )

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "from_logits": self.from_logits}


def cross_entropy(label_smoothing=0.0):
    """The loss of logits and class indices."""
    if label_smoothing:
        return SmoothedSparseCategoricalCrossentropy(label_smoothing, from_logits=True)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compile_model(model, dataset, recipe, batch_size):
    """Compiles a classifier with logits to be trained by a `recipes.Recipe` on a `datasets.Dataset`."""
    schedule = recipe.schedule
    optimizer = keras.optimizers.SGD(
        _learning_rate(schedule, math.ceil(dataset.train_examples / batch_size)),
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay or None,
        global_clipnorm=schedule.clip_norm,
    )
    model.compile(optimizer, cross_entropy(recipe.label_smoothing), metrics=["accuracy"])


def fit(model, dataset, schedule, callbacks=(), verbose="auto"):
    """Trains a compiled `FlowRegularizedModel`, with warm-ups; returns Keras's `History`."""
    warmup, warmups = schedule.warmup * schedule.epochs, []
    if model.regularizer is not None:
        warmups.append(fr.callbacks.PenaltyWarmup(warmup))
    if model.attack is not None:
        warmups.append(fr.callbacks.AttackWarmup(warmup))
    return model.fit(
        dataset.train,
        validation_data=dataset.validation,
        epochs=schedule.epochs,
        callbacks=[*callbacks, *warmups, _OrderOfExamples(dataset.train)],
        verbose=verbose,
    )


class _OrderOfExamples(keras.callbacks.Callback):
    """Gives a training that `BackupAndRestore` resumes the order of examples that it would have had.

    How a data set is shuffled and augmented depends on how often it was iterated over. Put it after that callback.
    """

    def __init__(self, examples):
        super().__init__()
        self._examples = examples

    def on_train_begin(self, logs=None):
        epochs_done = self.model.optimizer.iterations.numpy() // len(self._examples)
        for _ in range(epochs_done * _ITERATORS_PER_EPOCH):
            iter(self._examples)


def _learning_rate(schedule, steps_per_epoch):
    schedules = keras.optimizers.schedules
    if not schedule.milestones:
        return schedules.CosineDecay(schedule.learning_rate, schedule.epochs * steps_per_epoch)
    boundaries = [epoch * steps_per_epoch for epoch in schedule.milestones]
    rates = [schedule.learning_rate / 10**drops for drops in range(len(boundaries) + 1)]
    return schedules.PiecewiseConstantDecay(boundaries, rates)

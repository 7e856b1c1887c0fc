"""A Keras model that stops at the first step that goes wrong, and keeps the weights of the last good one.

A compiled step cannot stop in its middle: XLA drops every assertion, and of several replicas only one may be hit. So a step
counts what is wrong with it, and leaves the weights as they are. Whoever called it raises the error.
"""

from collections.abc import Sequence
from typing import Any, Optional

import keras
import tensorflow as tf

from keras_flowreg import compat, states, step_variables
from keras_flowreg.batches import advice_on_pairs
from keras_flowreg.ops.losses import expect_labels_in_range, label_kind
from keras_flowreg.ops.requirements import Requirement
from keras_flowreg.ops.validation import as_images, expect_finite
from keras_flowreg.types import KerasModel, LossFunction

_OF_XLA = ("unsupported operations", "must be a compile-time constant")  # in its errors of what it cannot compile
_MOST = 16  # different requirements of a model's steps that are told apart


class _Counts(keras.metrics.Metric):
    """How often each requirement was not met, in the order in which they came up. It never ends with an epoch."""

    def __init__(self):
        super().__init__(name="unmet_requirements", dtype="float32")
        self.counts = self.add_weight(name="counts", shape=(_MOST,), initializer="zeros", dtype="float32")

    def update_state(self, unmet: tf.Tensor) -> None:
        self.counts.assign_add(unmet)

    def result(self) -> tf.Tensor:
        return tf.reduce_sum(tf.convert_to_tensor(self.counts))


class GuardedModel(keras.Model):
    """A Keras model whose steps say what they require, and whose `fit` and `evaluate` raise what was not met.

    A subclass collects the requirements of a step with `collected_requirements`. It hands them to `are_met`, and the
    answer to `apply_if`.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._unmet = _Counts()
        self._errors: list[str] = []  # one for each count

    def make_train_function(self, force: bool = False) -> Any:
        return self._guard("train_function", super().make_train_function(force))

    def make_test_function(self, force: bool = False) -> Any:
        return self._guard("test_function", super().make_test_function(force))

    def are_met(self, requirements: Sequence[Requirement]) -> tf.Tensor:
        """Whether this step and all before it, on every replica, had what they require: a scalar bool.

        Whatever they had not is counted.
        """
        errors = [f"{requirement.expected} {requirement.received}" for requirement in requirements]
        self._errors += [error for error in errors if error not in self._errors]
        positions = [min(self._errors.index(error), _MOST - 1) for error in errors]
        unmet = 1 - tf.cast([requirement.is_met for requirement in requirements], tf.float32)
        unmet = tf.reduce_sum(unmet[:, tf.newaxis] * tf.one_hot(positions, _MOST), axis=0)
        if tf.distribute.has_strategy():
            unmet = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, unmet)
        before = tf.convert_to_tensor(self._unmet.counts)
        self._unmet.counts.assign_add(unmet)
        return tf.reduce_sum(before + unmet) == 0

    def expect_finite_gradients(self, gradients: Sequence[Optional[tf.Tensor]]) -> None:
        """Checks the sum of each, which is finite only if every number is.

        An optimizer that scales the loss sees to that itself: it leaves out the steps whose gradients are not.
        """
        sums = [tf.reduce_sum(getattr(gradient, "values", gradient)) for gradient in gradients if gradient is not None]
        if sums and not compat.scales_the_loss(self.optimizer):
            expect_finite(tf.add_n([tf.cast(total, tf.float32) for total in sums]), "gradients of the weights")

    def apply_if(self, is_good: tf.Tensor, gradients: Sequence[Optional[tf.Tensor]]) -> None:
        """Takes the optimizer's step, if it is a good one."""
        if not any(gradient is not None for gradient in gradients):  # There are none for a frozen model.
            return

        def apply(gradients):
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            return tf.constant(True)

        if tf.distribute.has_strategy():
            tf.distribute.get_replica_context().merge_call(_apply_on_replicas, args=(apply, is_good, list(gradients)))
        else:
            tf.cond(is_good, lambda: apply(gradients), lambda: tf.constant(False))

    def _guard(self, name, made):
        """Keras's function of a step, so that it raises what its steps have counted."""
        function = made or getattr(self, name)  # Keras 3 only sets it.
        if not isinstance(function, _Guarded):
            function = _Guarded(self, function, is_training=name == "train_function")
            setattr(self, name, function)
        return function

    def _raise_unmet(self):
        counts = tf.convert_to_tensor(self._unmet.counts).numpy()
        if not counts.any():
            return
        self._unmet.counts.assign(tf.zeros_like(counts))
        raise ValueError(
            f"{self._errors[int(counts.nonzero()[0][0])]}, after {int(compat.batches_seen(self.optimizer))} good ones. "
            "The weights are those after the last good one."
        )


def expect_batch(data: Any, model: KerasModel, loss: Optional[LossFunction]) -> tuple[Any, Any, Any]:
    """A batch's images, labels and weights, which are required to be fit for a model and its loss."""
    images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if labels is None:
        raise ValueError(
            "Expected images with labels: a gradient of the loss needs both. "
            f"Received no labels{advice_on_pairs(images)}."
        )
    images = expect_finite(as_images(images))
    states.build(model, images)
    predictions = compat.symbolic_output(model)
    if predictions is not None:
        labels = expect_labels_in_range(_of_known_rank(labels, predictions, loss), predictions, loss)
    if sample_weight is not None:
        sample_weight = expect_finite(tf.cast(sample_weight, tf.float32), "sample weights")
    return images, labels, sample_weight


def _of_known_rank(labels, predictions, loss):
    """Labels of a data set that does not tell their rank, or their number for each image, as the loss takes them."""
    if not tf.is_tensor(labels) or labels.shape.rank not in (None, 2) or labels.shape[1:].is_fully_defined():
        return labels
    kind = label_kind(loss)
    if labels.shape.rank == 2:
        return tf.ensure_shape(labels, [None, 1]) if kind == "indices" else labels
    return tf.reshape(labels, [-1]) if kind in ("indices", "either") else tf.ensure_shape(labels, predictions.shape)


class _Guarded:
    """A function of Keras that takes steps, and then raises what was wrong with one."""

    def __init__(self, model: GuardedModel, function: Any, is_training: bool):
        self._model = model
        self._function = function
        self._is_training = is_training
        self._has_run = False

    def __call__(self, batches: Any) -> Any:
        if not self._has_run:
            step_variables.make(self._model, batches, self._is_training)
            self._has_run = True
        try:
            logs = self._function(batches)
        except tf.errors.InvalidArgumentError as error:
            if not any(words in str(error) for words in _OF_XLA):
                raise
            raise ValueError(
                "Expected operations that XLA compiles. Received a model with another: compile it with jit_compile=False. "
                f"{str(error).splitlines()[0]}"
            ) from error
        self._model._raise_unmet()
        return logs


def _apply_on_replicas(strategy, apply, is_good, gradients):
    """`apply` on each replica, if the step is a good one; all of them agree on that."""
    (apply, *_) = strategy.experimental_local_results(apply)
    (is_good, *_) = strategy.experimental_local_results(is_good)

    def step():
        strategy.extended.call_for_each_replica(apply, args=(gradients,))
        return tf.constant(True)

    return tf.cond(is_good, step, lambda: tf.constant(False))

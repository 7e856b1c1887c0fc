"""What every search is made of: candidates, the examples that are left, the objective, and the loop over steps."""

from typing import Any, Callable, NamedTuple

import tensorflow as tf

from keras_flowreg.ops.losses import is_correct, per_example_loss
from keras_flowreg.perturbations import Perturbation


class Candidate(NamedTuple):
    """What a search has found for each example."""

    parameters: tf.Tensor  # θ, [batch, ...]
    success: tf.Tensor  # bool [batch]: misclassified, or as the target
    loss: tf.Tensor  # [batch]: what the search raises
    queries: tf.Tensor  # int32 [batch]: runs of the model that it took


class Examples(NamedTuple):
    """The examples that a search works on, or those of them that are left."""

    images: tf.Tensor
    labels: tf.Tensor
    clean_loss: tf.Tensor  # [batch]
    positions: tf.Tensor  # int32 [batch], in the whole batch
    whole_batch: tf.Tensor  # int32: the size of the whole batch
    compact: bool  # whether fooled examples leave the model's batch, or only stay as they are
    stop_when_fooled: bool

    def take(self, indices):
        """Some of the examples."""
        images, labels, clean_loss, positions = _gather(self[:4], indices)
        return self._replace(images=images, labels=labels, clean_loss=clean_loss, positions=positions)

    def draw(self, sample):
        """Draws at random for each example, whatever other examples are left.

        Args:
          sample: takes the size of the whole batch, and returns a draw for each of its examples.
        """
        draws = sample(self.whole_batch)
        return tf.gather(draws, self.positions) if self.compact else draws

    def are_open(self, best):
        """Which examples are still searched: bool `[batch]`."""
        return tf.logical_not(best.success) if self.stop_when_fooled else tf.ones_like(best.success)


class RaisedLoss(NamedTuple):
    """The loss that a search raises. It is equal to another of the same loss, by which compiled gradients are found."""

    loss: Any  # a keras.losses.Loss, or a function of (labels, predictions)
    targeted: bool

    def __call__(self, labels, predictions):
        """`[batch]`: the loss, or less the loss of a target."""
        losses = per_example_loss(self.loss, labels, predictions)
        return -losses if self.targeted else losses


class Objective(NamedTuple):
    """What a search maximizes over θ: the loss of a classifier on T(x; θ).

    Each run of the classifier on an image is one *query*.
    """

    classifier: Any  # `runner`'s: `predict`, `differentiate`, `differentiate_loss`, `has_gradient`
    raised: RaisedLoss
    perturbation: Perturbation
    value_range: tuple

    def perturb(self, images, parameters):
        """T(x; θ), kept to the value range."""
        return tf.clip_by_value(self.perturbation.apply(images, parameters), *self.value_range)

    def query(self, examples, parameters):
        """Runs the classifier on T(x; θ); returns the `Candidate` for each example."""
        predictions = self.classifier.predict(self.perturb(examples.images, parameters))
        return self.candidate(parameters, predictions, examples.labels)

    def query_with_gradient(self, examples, parameters):
        """`query`, and ∂loss/∂θ for each example."""
        perturbed, pull_back = self.perturbation.linearize(examples.images, parameters)
        predictions, upstream = self.differentiate(perturbed, examples.labels)
        return self.candidate(parameters, predictions, examples.labels), pull_back(upstream)

    def query_clean(self, examples):
        """Runs the classifier on the images as they are: the `Candidate` at the identity."""
        predictions = self.classifier.predict(examples.images)
        return self.candidate(self.perturbation.identity(examples.images), predictions, examples.labels)

    def differentiate(self, images, labels):
        """The predictions for perturbed images, and ∂loss/∂image."""
        return self.classifier.differentiate_loss(images, labels, self.raised, self.value_range)

    def differentiate_each(self, images, measure):
        """The predictions for perturbed images, and the gradient of each number that is measured of them.

        Args:
          images: T(x; θ).
          measure: takes the predictions, and returns a list of `[batch]` tensors.

        Returns:
          `(predictions, gradients)`: a gradient `[batch, height, width, channels]` for each of them.
        """
        return self.classifier.differentiate(images, measure, self.value_range)

    def candidate(self, parameters, predictions, labels):
        """The `Candidate` of one query, from the classifier's predictions."""
        correct = is_correct(labels, predictions)
        success = correct if self.raised.targeted else tf.logical_not(correct)
        losses = self.raised(labels, predictions)
        return Candidate(parameters, success, losses, tf.ones_like(success, tf.int32))

    def with_loss(self, loss):
        """The same for another loss."""
        return self._replace(raised=self.raised._replace(loss=loss))


def keep_best(best, candidate, examples):
    """Example by example: a success before any other candidate, then the one with the higher loss.

    A success whose loss is less than the clean image's does not count, and neither does one that is not finite. Where
    an example's search ends with its first success, that one is kept.
    """
    is_open = examples.are_open(best)
    success = candidate.success & (candidate.loss >= examples.clean_loss)
    is_better = is_open & tf.where(success == best.success, candidate.loss > best.loss, success)
    queries = best.queries + tf.where(is_open, candidate.queries, 0)
    chosen = select(is_better, candidate._replace(success=success), best)
    return chosen._replace(queries=queries)


def iterate(step: Callable, steps, examples, best, state):
    """Searches on, step by step, among the examples that are not fooled yet.

    Args:
      step: takes (count, `Examples`, state), and returns (`Candidate`, state).
      steps: how many steps to take at most.
      examples: `Examples`.
      best: the best `Candidate` so far.
      state: what a step hands to the next: tensors whose first axis is the batch.

    Returns:
      `(best, state)`.
    """

    def unfinished(count, best, state):
        return (count < steps) & tf.reduce_any(examples.are_open(best))

    def body(count, best, state):
        if not examples.compact:
            candidate, state = step(count, examples, state)
            return count + 1, keep_best(best, candidate, examples), state
        left = tf.where(examples.are_open(best))[:, 0]
        chosen = examples.take(left)
        candidate, new_state = step(count, chosen, _gather(state, left))
        better = keep_best(_gather(best, left), candidate, chosen)
        return count + 1, _scatter(best, left, better), _scatter(state, left, new_state)

    _, best, state = tf.while_loop(unfinished, body, (0, best, state), parallel_iterations=1)
    return best, state


def query_once(objective, examples, best, parameters):
    """Queries one more θ of the examples that are not fooled yet; returns the best candidates."""

    def step(count, examples, parameters):
        return objective.query(examples, parameters), parameters

    return iterate(step, 1, examples, best, parameters)[0]


def select(condition, new, old):
    """Example by example: `new` where `condition`, else `old`."""

    def choose(new, old):
        return tf.where(tf.reshape(condition, [-1] + [1] * (new.shape.rank - 1)), new, old)

    return tf.nest.map_structure(choose, new, old)


def _gather(structure, indices):
    """The rows `indices` of every tensor."""
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, indices), structure)


def _scatter(structure, indices, updates):
    """Every tensor with its rows `indices` replaced."""
    return tf.nest.map_structure(
        lambda tensor, update: tf.tensor_scatter_nd_update(tensor, indices[:, tf.newaxis], update), structure, updates
    )

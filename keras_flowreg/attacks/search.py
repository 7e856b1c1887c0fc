"""What every search is made of: candidates, the examples that are left, the objective, and the loop over steps."""

from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

import tensorflow as tf

from keras_flowreg.attacks.classifier import Classifier
from keras_flowreg.attacks.raised_loss import RaisedLoss
from keras_flowreg.ops.labels import is_correct
from keras_flowreg.perturbations import Perturbation
from keras_flowreg.types import Images, Labels, Parameters, PerExample, Scalar, Seed, ValueRange

if TYPE_CHECKING:
    from keras_flowreg.attacks.base import Attack


class Candidate(NamedTuple):
    """What a search has found for each example."""

    parameters: Parameters  # θ, [batch, ...]
    success: PerExample  # bool: whether the model is fooled: misclassified, or classified as the target
    loss: PerExample  # what the search raises
    queries: PerExample  # int32: how many it took


class Examples(NamedTuple):
    """The examples that a search works on, or those of them that are left."""

    images: Images
    labels: Labels
    clean_loss: Optional[PerExample]
    positions: PerExample  # int32: where they are in the whole batch
    whole_batch: Scalar  # int32: the size of the whole batch
    compact: bool  # whether fooled examples leave the model's batch, or only stay as they are
    stop_when_fooled: bool

    def take(self, indices: tf.Tensor) -> "Examples":
        """Some of the examples."""
        images, labels, clean_loss, positions = _gather(self[:4], indices)
        return self._replace(images=images, labels=labels, clean_loss=clean_loss, positions=positions)

    def draw(self, sample: Callable[[Scalar], tf.Tensor]) -> tf.Tensor:
        """Draws at random for each example, whatever other examples are left.

        Args:
          sample: takes the size of the whole batch, and returns a draw for each of its examples.
        """
        return tf.gather(sample(self.whole_batch), self.positions)

    def draw_like(self, tensor: tf.Tensor, sample: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """The same, of the shape and dtype of a tensor; `sample` takes the shape for the whole batch."""
        drawn = self.draw(lambda batch: sample(tf.concat([[batch], tf.shape(tensor)[1:]], 0)))
        return tf.ensure_shape(tf.cast(drawn, tensor.dtype), tensor.shape)

    def are_open(self, best: Candidate) -> PerExample:
        """Which examples are still searched: bool `[batch]`."""
        return tf.logical_not(best.success) if self.stop_when_fooled else tf.ones_like(best.success)


class Objective(NamedTuple):
    """What a search maximizes over θ: the loss of a classifier on T(x; θ).

    Each run of the classifier on an image is one *query*.
    """

    classifier: Classifier
    raised: RaisedLoss
    perturbation: Perturbation
    value_range: ValueRange

    def perturb(self, images: Images, parameters: Parameters) -> tf.Tensor:
        """T(x; θ), kept to the value range."""

        def perturb(images, parameters):
            return tf.clip_by_value(self.perturbation.apply(images, parameters), *self.value_range)

        return self.classifier.run(("perturb", self.perturbation, self.value_range), perturb, images, parameters)

    def search(self, attack: "Attack", examples: Examples, seed: Seed) -> tuple[Candidate, Candidate]:
        """Has an attack search this objective, compiled as one unless it compiles its own parts.

        Args:
          attack: the `Attack`.
          examples: `Examples`; their clean loss is not used.
          seed: two integers.

        Returns:
          `(clean, found)`: the `Candidate` of the images as they are, and what was found.
        """

        def search(images, labels, positions, whole_batch, seed, *numbers):
            chosen = examples._replace(images=images, labels=labels, positions=positions, whole_batch=whole_batch)
            clean = self.query_clean(chosen)
            chosen = chosen._replace(clean_loss=clean.loss)
            found = attack.with_numbers(numbers).search(self, chosen, clean, tf.ensure_shape(seed, [2]))
            return clean, keep_best(clean, found, chosen)._replace(queries=found.queries)

        tensors = examples.images, examples.labels, examples.positions, examples.whole_batch, seed
        if not attack.is_compiled:
            return search(*tensors)
        numbers = [tf.constant(number, tf.float64) for number in attack.numbers().values()]
        mode = self.raised, self.perturbation, examples.compact, examples.stop_when_fooled, self.classifier.has_gradient
        return self.classifier.run(("search", attack.search_key(), mode), search, *tensors, *numbers)

    def query(self, examples: Examples, parameters: Parameters) -> Candidate:
        """Runs the classifier on T(x; θ); returns the `Candidate` for each example."""

        def evaluate(images, labels, parameters):
            return self._evaluate(self.classifier.predict(self.perturb(images, parameters)), labels)

        return self._candidate(parameters, *self._run(evaluate, examples, parameters))

    def query_clean(self, examples: Examples) -> Candidate:
        """Runs the classifier on the images as they are: the `Candidate` at the identity."""

        def evaluate_clean(images, labels):
            predictions = self.classifier.predict(images)
            return self._evaluate(predictions, self.raised.expect_labels(labels, predictions))

        identity = self.perturbation.identity(examples.images)
        return self._candidate(identity, *self._run(evaluate_clean, examples))

    def query_with_gradient(self, examples: Examples, parameters: Parameters) -> tuple[Candidate, tf.Tensor]:
        """`query`, and ∂loss/∂θ for each example."""

        def differentiate(images, labels, parameters):
            perturbed, pull_back = self.perturbation.linearize(images, parameters)
            loss, success, gradient = self._differentiate(perturbed, labels)
            return loss, success, pull_back(gradient)

        loss, success, gradient = self._run(differentiate, examples, parameters)
        return self._candidate(parameters, loss, success), gradient

    def query_with_image_gradient(self, examples: Examples, parameters: Parameters) -> tuple[Candidate, tf.Tensor]:
        """`query`, and ∂loss/∂T for each example."""

        def differentiate_in_images(images, labels, parameters):
            return self._differentiate(self.perturbation.apply(images, parameters), labels)

        loss, success, gradient = self._run(differentiate_in_images, examples, parameters)
        return self._candidate(parameters, loss, success), gradient

    def query_with(
        self, key: Any, measure: Callable[..., list[PerExample]], examples: Examples, parameters: Parameters
    ) -> tuple[Candidate, list[PerExample], list[tf.Tensor]]:
        """`query`, and the gradient with respect to θ of each number that is measured of the predictions.

        Args:
          key: whatever decides what `measure` does, to find it again when it is compiled.
          measure: takes predictions and labels, and returns a list of `[batch]` tensors.
          examples, parameters: what is queried.

        Returns:
          `(Candidate, measured, gradients)`.
        """

        def differentiate_each(images, labels, parameters):
            perturbed, pull_back = self.perturbation.linearize(images, parameters)
            inside, measured = tf.clip_by_value(perturbed, *self.value_range), []

            def measure_labelled(predictions):
                measured.extend(measure(tf.cast(predictions, images.dtype), labels))
                return measured

            predictions, gradients = self.classifier.differentiate(inside, measure_labelled)
            pulled_back = [pull_back(_where_inside(perturbed, inside, gradient)) for gradient in gradients]
            return (*self._evaluate(predictions, labels), measured, pulled_back)

        loss, success, measured, gradients = self._run(differentiate_each, examples, parameters, key=key)
        return self._candidate(parameters, loss, success), measured, gradients

    def _run(self, function, examples, *parameters, key=None):
        key = function.__name__, self.raised, self.perturbation, self.value_range, key
        return self.classifier.run(key, function, examples.images, examples.labels, *parameters)

    def _differentiate(self, perturbed, labels):
        """Loss and success for T(x; θ), and ∂loss/∂T: zero where a value was clipped."""
        inside = tf.clip_by_value(perturbed, *self.value_range)
        predictions, gradient = self.classifier.differentiate_loss(inside, labels, self.raised)
        return (*self._evaluate(predictions, labels), _where_inside(perturbed, inside, gradient))

    def _evaluate(self, predictions, labels):
        """The loss, which the search raises, and whether it is a success."""
        correct = is_correct(labels, predictions)
        return self.raised(labels, predictions), correct if self.raised.targeted else tf.logical_not(correct)

    def _candidate(self, parameters, loss, success):
        return Candidate(parameters, success, loss, tf.ones_like(success, tf.int32))


def _where_inside(perturbed, inside, gradient):
    return tf.where(perturbed == inside, gradient, tf.zeros_like(gradient))


def keep_best(best: Candidate, candidate: Candidate, examples: Examples) -> Candidate:
    """The better of two candidates, example by example: a success, and else the one with the higher loss.

    Where a search ends with the first success, that one is kept. Where it goes on, as in training, a success does not count
    if its loss is less than the clean image's. One whose loss is not a number never counts.
    """
    is_open = examples.are_open(best)
    least = candidate.loss if examples.stop_when_fooled else examples.clean_loss
    success = candidate.success & (candidate.loss >= least)
    is_better = is_open & tf.where(success == best.success, candidate.loss > best.loss, success)
    better = select(is_better, candidate._replace(success=success), best)
    return better._replace(queries=best.queries + tf.where(is_open, candidate.queries, 0))


def iterate(
    step: Callable[..., Any], steps: int, examples: Examples, best: Candidate, state: Any
) -> tuple[Candidate, Any]:
    """Searches on, step by step, among the examples that are not fooled yet.

    ```python
    class Shifts(fr.attacks.RandomFlow):  # moves all pixels to the right, farther with each step
        def search(self, objective, examples, clean, seed):
            def step(count, examples, state):
                part = tf.cast(count + 1, tf.float32) / self.draws
                right = tf.stack([0.0, part * tf.cast(self.epsilon, tf.float32)])
                shape = tf.concat([tf.shape(examples.images)[:3], [2]], axis=0)
                return objective.query(examples, tf.broadcast_to(right, shape)), state

            return fr.attacks.search.iterate(step, self.draws, examples, clean, state=())[0]

    moved = Shifts(epsilon=0.4)(images, labels, model=model)
    ```

    Args:
      step: takes the count of steps, the `Examples` and the state, and returns a `Candidate` and the next state.
      steps: how many steps to take at most.
      examples: the `Examples`.
      best: the best `Candidate` so far.
      state: what a step hands to the next one: tensors whose first axis is the batch.

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

    _, best, state = loop(unfinished, body, (0, best, state))
    return best, state


def loop(condition: Callable[..., Any], body: Callable[..., Any], state: tuple) -> tuple:
    """A loop that keeps the order of its steps. It runs in Python where nothing is compiled."""
    if not tf.executing_eagerly():
        return tf.while_loop(condition, body, state, parallel_iterations=1)
    while condition(*state):
        state = body(*state)
    return state


def query_once(objective: Objective, examples: Examples, best: Candidate, parameters: Parameters) -> Candidate:
    """Queries one more θ of the examples that are not fooled yet. Returns the best candidates."""

    def step(count, examples, parameters):
        return objective.query(examples, parameters), parameters

    return iterate(step, 1, examples, best, parameters)[0]


def select(condition: PerExample, new: Any, old: Any) -> Any:
    """The new value of each example where a condition holds, and else the old one."""

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

"""What an attack is: a Keras layer that turns images and labels into adversarial images."""

from typing import Callable, NamedTuple

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.ops.flows import DisplacementStatistics, displacement_statistics
from keras_flowreg.ops.losses import (
    deserialize_loss,
    expect_labels_in_range,
    is_correct,
    name_of,
    per_example_loss,
    resolve_loss,
)
from keras_flowreg.ops.validation import as_images, expect_finite


class Candidate(NamedTuple):
    """What a search has found for each example."""

    parameters: tf.Tensor  # θ, [batch, ...]
    success: tf.Tensor  # bool [batch]: misclassified, or as the target
    loss: tf.Tensor  # [batch]: what the search raises
    queries: tf.Tensor  # int32 [batch]: model evaluations that it took


class AttackResult(NamedTuple):
    """What an attack has done to each example of a batch."""

    images: tf.Tensor  # adversarial, [batch, height, width, channels]
    parameters: tf.Tensor  # θ, [batch, ...]
    flow: tf.Tensor  # θ as displacements, [batch, height, width, 2], in pixels
    success: tf.Tensor  # bool [batch]
    loss: tf.Tensor  # [batch]
    clean_success: tf.Tensor  # bool [batch]: already so without any perturbation
    clean_loss: tf.Tensor  # [batch]
    queries: tf.Tensor  # int32 [batch]
    displacement: DisplacementStatistics  # each [batch]


class Examples(NamedTuple):
    """The examples that a search works on, or those of them that are left."""

    images: tf.Tensor
    labels: tf.Tensor
    clean_loss: tf.Tensor  # [batch]
    positions: tf.Tensor  # int32 [batch], in the whole batch
    whole_batch: tf.Tensor  # int32: the size of the whole batch
    compact: bool  # whether broken examples are left out of the model's batch, or only kept as they are
    stop_when_broken: bool

    def take(self, indices):
        """Some of the examples."""
        images, labels, clean_loss, positions = gather(self[:4], indices)
        return self._replace(images=images, labels=labels, clean_loss=clean_loss, positions=positions)

    def draw(self, sample):
        """Each example's own random draw, which does not depend on what other examples are left.

        Args:
          sample: takes the size of the whole batch, and returns a draw for each of its examples.
        """
        draws = sample(self.whole_batch)
        return tf.gather(draws, self.positions) if self.compact else draws


def gather(structure, indices):
    """The rows `indices` of every tensor."""
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, indices), structure)


def scatter(structure, indices, updates):
    """Every tensor with its rows `indices` replaced."""
    return tf.nest.map_structure(
        lambda tensor, update: tf.tensor_scatter_nd_update(tensor, indices[:, tf.newaxis], update), structure, updates
    )


def select(condition, new, old):
    """Example by example: `new` where `condition`, else `old`."""

    def choose(new, old):
        return tf.where(tf.reshape(condition, [-1] + [1] * (new.shape.rank - 1)), new, old)

    return tf.nest.map_structure(choose, new, old)


def keep_better(best, candidate, clean_loss, stop_when_broken=True):
    """Example by example: a success before any other candidate, then the one with the higher loss.

    A success whose loss is less than the clean image's does not count, and neither does one that is not
    finite. With `stop_when_broken` the first success is kept.
    """
    unbroken = tf.logical_not(best.success) if stop_when_broken else tf.ones_like(best.success)
    success = candidate.success & (candidate.loss >= clean_loss)
    higher = candidate.loss > best.loss
    better = unbroken & tf.where(success == best.success, higher, success)
    queries = best.queries + tf.where(unbroken, candidate.queries, 0)
    chosen = select(better, candidate._replace(success=success), best)
    return chosen._replace(queries=queries)


class Attack(keras.layers.Layer):
    """Searches a threat model for the perturbation that raises each example's loss most.

    A subclass gives `perturbation` and `search`. The search runs as one compiled graph, which is traced once
    for each kind of batch and not again for a smaller one. The model is run in inference mode, and what comes
    back is a constant: no gradient flows through an attack.

    Every attack keeps the same promises. Each example is attacked on its own: what comes of it does not depend
    on its neighbours. The work on an example ends as soon as it is broken, and one that is broken without any
    perturbation is returned as it is. The loss of what is returned is never less than that of the clean image.

    Args:
      model: a Keras model, images to logits or probabilities of at least two classes.
      loss: what to raise: a Keras loss (instance, function or name), `"margin"` or `"log_odds"` (see
        `ops.MarginLoss` and `ops.LogOddsLoss`), or `None` for the loss that the model was compiled with.
      targeted: whether `labels` are the classes to reach, whose loss is lowered, not those to leave.
      value_range: the least and the greatest value of an image, which its adversarial image keeps to.
      seed: of what is random in the search: the same call gives the same images.
      jit_compile: whether to compile with XLA; `"auto"`: where there is a GPU.
      name: the layer's.

    Call arguments:
      images: `[batch, height, width, channels]` within `value_range`.
      labels: as the loss takes them.
      seed: `[2]` integers, instead of the layer's own seed.
      return_perturbation: whether to return θ as well.
      stop_when_broken: `False` goes on to raise the loss of an example that is broken, as adversarial training
        wants it.

    Returns:
      The adversarial images, of the shape of `images`, float32 (float64 for float64 images); or
      `(adversarial images, θ)`. `run` returns more.

    Raises:
      TypeError: if `model` is not a Keras model.
      ValueError: if an argument is out of its range.
      InvalidArgumentError: if a batch holds NaN, or values outside the value range, or labels without a class.
    """

    # Whether the search needs the model's gradient.
    uses_gradients = True

    def __init__(
        self,
        model,
        *,
        loss=None,
        targeted=False,
        value_range=(0.0, 1.0),
        seed=0,
        jit_compile="auto",
        name=None,
    ):
        if not isinstance(model, keras.Model):
            raise TypeError(f"Expected `model` to be a keras.Model. Received {model!r}.")
        low, high = (float(bound) for bound in value_range)
        if not low < high:
            raise ValueError(f"Expected `value_range` to be (least, greatest). Received {value_range!r}.")
        super().__init__(name=name, dtype=model.variable_dtype)
        self.label = name or type(self).__name__
        self.model = model
        self.loss = loss
        self.targeted = bool(targeted)
        self.value_range = (low, high)
        self.seed = int(seed)
        self.jit_compile = jit_compile
        # A plain holder: Keras would wrap a dict, and try to save the functions in it.
        object.__setattr__(self, "_compiled", {})
        self.built = True

    @property
    def epsilon(self):
        """The radius of the threat model in pixels; `None` for an attack that has none."""
        return self.ball.epsilon if hasattr(self, "ball") else None

    @property
    def perturbation(self):
        """The `Perturbation` whose parameters are searched."""
        raise NotImplementedError

    def search(self, examples, clean, seed):
        """Returns the best `Candidate` that was found, for each example.

        Args:
          examples: `Examples`.
          clean: their `Candidate` without any perturbation.
          seed: `[2]` integers.
        """
        raise NotImplementedError

    def call(self, images, labels, seed=None, return_perturbation=False, stop_when_broken=True):
        result = self.run(images, labels, seed, stop_when_broken)
        return (result.images, result.parameters) if return_perturbation else result.images

    def run(self, images, labels, seed=None, stop_when_broken=True):
        """Attacks a batch, and returns all there is to know of it.

        Args:
          images, labels, seed, stop_when_broken: the call's arguments.

        Returns:
          `AttackResult`.
        """
        images, labels = as_images(images), tf.convert_to_tensor(labels)
        seed = tf.constant([self.seed, 0]) if seed is None else tf.convert_to_tensor(seed)
        if tf.executing_eagerly():
            return self._compiled_for(images, labels, seed, stop_when_broken)(images, labels, seed)
        # Whoever compiles this graph may do so with XLA, which cannot leave examples out.
        return self._run(images, labels, seed, stop_when_broken, compact=False)

    def compute_output_shape(self, images_shape, labels_shape):
        return images_shape

    def perturb(self, images, parameters):
        """T(x; θ), kept to the value range."""
        return tf.clip_by_value(self.perturbation.apply(images, parameters), *self.value_range)

    def judge(self, examples, parameters):
        """Runs the model on T(x; θ): the `Candidate` for each example."""
        return self.candidate(parameters, *self._evaluate(self.perturb(examples.images, parameters), examples.labels))

    def judge_and_differentiate(self, examples, parameters):
        """`judge`, and ∂loss/∂θ for each example."""
        perturbed, pull_back = self.perturbation.linearize(examples.images, parameters)
        losses, success, upstream = self.differentiate(perturbed, examples.labels)
        return self.candidate(parameters, losses, success), pull_back(upstream)

    def differentiate(self, images, labels):
        """Each image's loss, whether it is a success, and ∂loss/∂image."""
        with tf.GradientTape() as tape:
            tape.watch(images)
            losses, success = self._evaluate(tf.clip_by_value(images, *self.value_range), labels)
        return losses, success, tape.gradient(losses, images)

    def assess(self, predictions, labels):
        """Each prediction's loss, which the search raises, and whether it is a success."""
        loss = resolve_loss(self.loss, self.model)
        labels = expect_labels_in_range(labels, predictions, loss)
        losses, correct = per_example_loss(loss, labels, predictions), is_correct(labels, predictions)
        return (-losses, correct) if self.targeted else (losses, tf.logical_not(correct))

    def candidate(self, parameters, losses, success):
        """The `Candidate` that one run of the model has judged."""
        return Candidate(parameters, success, losses, tf.ones_like(success, tf.int32))

    def iterate(self, step: Callable, steps, examples, best, state):
        """Searches on, step by step, among the examples that are not broken yet.

        Args:
          step: takes (count, `Examples`, state), and returns (`Candidate`, state).
          steps: how often to take it, at most.
          examples: `Examples`.
          best: the best `Candidate` so far.
          state: what a step hands to the next: tensors whose first axis is the batch.

        Returns:
          `(best, state)`.
        """

        def unfinished(count, best, state):
            return (count < steps) & tf.reduce_any(self._is_open(examples, best))

        def body(count, best, state):
            if not examples.compact:
                candidate, state = step(count, examples, state)
                return count + 1, self._keep_better(examples, best, candidate), state
            left = tf.where(self._is_open(examples, best))[:, 0]
            chosen = examples.take(left)
            candidate, new_state = step(count, chosen, gather(state, left))
            better = self._keep_better(chosen, gather(best, left), candidate)
            return count + 1, scatter(best, left, better), scatter(state, left, new_state)

        _, best, state = tf.while_loop(unfinished, body, (0, best, state), parallel_iterations=1)
        return best, state

    def consider(self, examples, best, parameters):
        """Judges one more θ of the examples that are not broken yet; returns the better candidates."""
        best, _ = self.iterate(
            lambda count, examples, parameters: (self.judge(examples, parameters), parameters),
            1,
            examples,
            best,
            parameters,
        )
        return best

    def at(self, epsilon):
        """A copy of this attack with another radius, in pixels."""
        return type(self)(self.model, **{**self.options(), "epsilon": epsilon})

    def settings(self):
        """Every option, as plain values: what to write beside a number that the attack gave."""
        loss = resolve_loss(self.loss, self.model)
        options = {key: value for key, value in self.options().items() if key not in ("name", "jit_compile")}
        return {**options, "kind": type(self).__name__, "loss": name_of(loss)}

    def options(self):
        """The arguments that this attack was made with, but for the model. A subclass adds its own."""
        return {
            "name": self.name,
            "loss": self.loss,
            "targeted": self.targeted,
            "value_range": self.value_range,
            "seed": self.seed,
            "jit_compile": self.jit_compile,
        }

    def get_config(self):
        return {
            **self.options(),
            "model": keras.saving.serialize_keras_object(self.model),
            "loss": keras.saving.serialize_keras_object(self.loss),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["model"] = keras.layers.deserialize(config["model"])
        config["loss"] = deserialize_loss(config["loss"])
        return cls(**config)

    def _is_open(self, examples, best):
        return tf.logical_not(best.success) if examples.stop_when_broken else tf.ones_like(best.success)

    def _keep_better(self, examples, best, candidate):
        return keep_better(best, candidate, examples.clean_loss, examples.stop_when_broken)

    def _evaluate(self, images, labels):
        """Each image's loss, which the search raises, and whether it is a success."""
        return self.assess(self.model(images, training=False), labels)

    def _run(self, images, labels, seed, stop_when_broken, compact):
        images = self._expect_in_range(expect_finite(images))
        losses, success = self._evaluate(images, labels)
        clean = self.candidate(self.perturbation.identity(images), losses, success)
        batch = tf.shape(images)[0]
        examples = Examples(images, labels, losses, tf.range(batch), batch, compact, stop_when_broken)
        found = self.search(examples, clean, seed)
        best = tf.nest.map_structure(tf.stop_gradient, self._keep_better(examples, clean, found))
        flow = self.perturbation.flow(images, best.parameters)
        return AttackResult(
            images=tf.stop_gradient(self.perturb(images, best.parameters)),
            parameters=best.parameters,
            flow=flow,
            success=best.success,
            loss=best.loss,
            clean_success=clean.success,
            clean_loss=clean.loss,
            queries=found.queries,
            displacement=displacement_statistics(flow),
        )

    def _compiled_for(self, images, labels, seed, stop_when_broken):
        """The compiled search for batches like this one, of any size."""
        signature = tuple(tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in (images, labels)) + (
            tf.TensorSpec(seed.shape, seed.dtype),
        )
        compiled_loss = resolve_loss(None, self.model) if self.loss in (None, "log_odds") else None
        key = (id(self.model), self.loss, compiled_loss, signature, stop_when_broken)
        if key not in self._compiled:
            jit_compile = compat.jit_compile_on_this_machine() if self.jit_compile == "auto" else self.jit_compile

            def run(images, labels, seed):
                return self._run(images, labels, seed, stop_when_broken, compact=not jit_compile)

            function = tf.function(run, jit_compile=jit_compile, autograph=False)
            self._compiled[key] = function.get_concrete_function(*signature)
        return self._compiled[key]

    def _expect_in_range(self, images):
        low, high = self.value_range
        message = f"Expected images with values from {low} to {high} (`value_range`). Received from, to:"
        least, greatest = tf.reduce_min(images), tf.reduce_max(images)
        in_range = tf.reduce_all([least >= low, greatest <= high])
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message, least, greatest])]):
            return tf.identity(images)

"""What an attack is: a Keras layer that turns images and labels into adversarial images."""

from typing import NamedTuple

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.ops.losses import expect_labels_in_range, is_correct, per_example_loss, resolve_loss
from keras_flowreg.ops.validation import as_images, expect_finite


class Candidate(NamedTuple):
    """What an attack has found for each example."""

    parameters: tf.Tensor  # θ, [batch, ...]
    misclassified: tf.Tensor  # bool [batch]
    loss: tf.Tensor  # [batch]


def keep_better(best, candidate):
    """Example by example: a misclassified candidate before any other, then the one with the higher loss."""
    better = tf.where(
        candidate.misclassified == best.misclassified, candidate.loss > best.loss, candidate.misclassified
    )

    def select(new, old):
        return tf.where(tf.reshape(better, [-1] + [1] * (new.shape.rank - 1)), new, old)

    return tf.nest.map_structure(select, candidate, best)


class Attack(keras.layers.Layer):
    """Searches a threat model for the perturbation that raises each example's loss most.

    A subclass gives `perturbation` and `search`. The search runs as one compiled graph, which is traced once
    for each kind of batch and not again for a smaller one. The model is run in inference mode, and what comes
    back is a constant: no gradient flows through an attack.

    Args:
      model: a Keras model, images to logits or probabilities of at least two classes.
      loss: a Keras loss: instance, function or name; `None` for the one the model was compiled with.
      value_range: the least and the greatest value of an image, which its adversarial image keeps to.
      seed: of what is random in the search: the same call gives the same images.
      jit_compile: whether to compile with XLA; `"auto"`: where there is a GPU.
      name: the layer's.

    Call arguments:
      images: `[batch, height, width, channels]` within `value_range`.
      labels: as the loss takes them.
      seed: `[2]` integers, instead of the layer's own seed.
      return_perturbation: whether to return θ as well.

    Returns:
      The adversarial images, of the shape of `images`, float32 (float64 for float64 images); or
      `(adversarial images, θ)`.

    Raises:
      TypeError: if `model` is not a Keras model.
      ValueError: if an argument is out of its range.
      InvalidArgumentError: if a batch holds NaN, or values outside the value range, or labels without a class.
    """

    def __init__(self, model, *, loss=None, value_range=(0.0, 1.0), seed=0, jit_compile="auto", name=None):
        if not isinstance(model, keras.Model):
            raise TypeError(f"Expected `model` to be a keras.Model. Received {model!r}.")
        low, high = (float(bound) for bound in value_range)
        if not low < high:
            raise ValueError(f"Expected `value_range` to be (least, greatest). Received {value_range!r}.")
        super().__init__(name=name, dtype=model.variable_dtype)
        self.model = model
        self.loss = loss
        self.value_range = (low, high)
        self.seed = int(seed)
        self.jit_compile = jit_compile
        # A plain holder: Keras would wrap a dict, and try to save the functions in it.
        object.__setattr__(self, "_compiled", {})
        self.built = True

    @property
    def perturbation(self):
        """The `Perturbation` whose parameters are searched."""
        raise NotImplementedError

    def search(self, images, labels, seed):
        """Returns the best θ that was found, for each example."""
        raise NotImplementedError

    def call(self, images, labels, seed=None, return_perturbation=False):
        images, labels = as_images(images), tf.convert_to_tensor(labels)
        seed = tf.constant([self.seed, 0]) if seed is None else tf.convert_to_tensor(seed)
        run = self._compiled_for(images, labels, seed) if tf.executing_eagerly() else self._run
        adversarial, parameters = run(images, labels, seed)
        return (adversarial, parameters) if return_perturbation else adversarial

    def compute_output_shape(self, images_shape, labels_shape):
        return images_shape

    def perturb(self, images, parameters):
        """T(x; θ), kept to the value range."""
        return tf.clip_by_value(self.perturbation.apply(images, parameters), *self.value_range)

    def judge(self, images, labels, parameters):
        """Runs the model on T(x; θ): the `Candidate` for each example."""
        losses, correct = self._evaluate(self.perturb(images, parameters), labels)
        return Candidate(parameters, tf.logical_not(correct), losses)

    def judge_and_differentiate(self, images, labels, parameters):
        """`judge`, and ∂loss/∂θ for each example."""
        perturbed, pull_back = self.perturbation.linearize(images, parameters)
        with tf.GradientTape() as tape:
            tape.watch(perturbed)
            losses, correct = self._evaluate(tf.clip_by_value(perturbed, *self.value_range), labels)
        gradients = pull_back(tape.gradient(losses, perturbed))
        return Candidate(parameters, tf.logical_not(correct), losses), gradients

    def get_config(self):
        return {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self.model),
            "loss": keras.saving.serialize_keras_object(self.loss),
            "value_range": self.value_range,
            "seed": self.seed,
            "jit_compile": self.jit_compile,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["model"] = keras.layers.deserialize(config["model"])
        config["loss"] = None if config["loss"] is None else keras.losses.get(config["loss"])
        return cls(**config)

    def _evaluate(self, images, labels):
        predictions = self.model(images, training=False)
        loss = resolve_loss(self.loss, self.model)
        expect_labels_in_range(labels, predictions, loss)
        return per_example_loss(loss, labels, predictions), is_correct(labels, predictions)

    def _run(self, images, labels, seed):
        images = self._expect_in_range(expect_finite(images))
        parameters = tf.stop_gradient(self.search(images, labels, seed))
        return tf.stop_gradient(self.perturb(images, parameters)), parameters

    def _compiled_for(self, images, labels, seed):
        """The compiled search for batches like this one, of any size."""
        signature = tuple(
            tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in (images, labels)
        ) + (tf.TensorSpec(seed.shape, seed.dtype),)
        key = (id(self.model), resolve_loss(self.loss, self.model), signature)
        if key not in self._compiled:
            jit_compile = compat.jit_compile_on_this_machine() if self.jit_compile == "auto" else self.jit_compile
            function = tf.function(self._run, jit_compile=jit_compile, autograph=False)
            self._compiled[key] = function.get_concrete_function(*signature)
        return self._compiled[key]

    def _expect_in_range(self, images):
        low, high = self.value_range
        message = f"Expected images with values from {low} to {high} (`value_range`). Received from, to:"
        least, greatest = tf.reduce_min(images), tf.reduce_max(images)
        in_range = tf.reduce_all([least >= low, greatest <= high])
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message, least, greatest])]):
            return tf.identity(images)

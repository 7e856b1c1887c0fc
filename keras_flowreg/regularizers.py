"""Gradient regularization: a penalty on the gradient of the loss with respect to a perturbation.

    penalty = mean over examples b of ‖∂loss_b/∂θ_b‖²

at the identity, or at a random start near it, where loss_b is the loss of example b alone. So the penalty
does not change with the batch size, the number of replicas, or the reduction of the loss. (Where a layer
mixes the examples of a batch, as BatchNormalization does in training, the gradient is that of the batch's
summed loss.)

The gradient of a cross-entropy is (1 - p) times that of the log-odds, log((1 - p) / p), where p is the label's
probability. So a penalty on it loses hold of the examples of which the model is sure; one on the gradient of the
log-odds does not. docs/reproduction.md has what that changes.
"""

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.gradients import GRADIENTS, linearize, loss_gradient
from keras_flowreg.ops.losses import compiled_loss, deserialize_loss, expect_loss, per_example_loss, resolve_loss
from keras_flowreg.ops.validation import (
    as_images,
    expect_not_negative,
    expect_one_of,
    expect_positive,
)
from keras_flowreg.perturbations import Additive, Flow, Perturbation, TapeLinearized

GRADIENT_NORMS = ("squared_l2", "l2", "l1")
GRADIENT_PLACES = ("start", "identity")
METHODS = ("exact", "finite_difference")
MODEL_MODES = ("training", "inference")


@keras.saving.register_keras_serializable(package="keras_flowreg")
class GradientRegularizer:
    """Penalizes the gradient of the loss with respect to any perturbation.

    It is a plain callable that any training loop can use:

    ```python
    regularizer = fr.FlowGradientRegularizer(weight=4.4)
    with tf.GradientTape() as tape:
        predictions, penalty = regularizer(model, images, labels, loss)
        total = tf.reduce_mean(loss(labels, predictions)) + regularizer.weight * penalty
    ```

    Args:
      perturbation: the `Perturbation` T(x; θ).
      weight: what the penalty is multiplied by in the total loss, not negative.
      loss: the loss whose gradient is penalized: `None`: the one that is trained, as in the paper; `"log_odds"`:
        that of its log-odds (see `ops.LogOddsLoss`), which asks for another weight; or any that `attacks.Attack`
        takes.
      random_start: standard deviation of the normal start of θ, in θ's units, in training; 0 for none.
        The predictions are then those of the started images: the start is an augmentation too, as in
        the authors' code, and the model is run once.
      gradient_at: `"start"`: ∂loss/∂θ at θ = start; `"identity"`: at θ = 0, on the started images, as
        the authors do.
      gradient_norm: what is penalized of the gradient: `"squared_l2"`, as in the paper; `"l2"` or `"l1"`: the dual norms of an ℓ2 and an ℓ∞ ball,
        that is, the first-order rise of the loss in a ball of radius 1.
      gradient: `"analytic"`: the perturbation's own pullback; `"tape"`: a tape through its `apply`.
      method: how the penalty is differentiated with respect to the model's weights: `"exact"`: double
        backpropagation; `"finite_difference"`: its directional derivative is the difference of two losses, at
        θ and a step away, so that no operation needs a second derivative. The penalty's value is the same. On
        the lattice, where a warp has a kink, it is the slope of the side that the step goes to.
      step: of the finite difference: its largest component, in θ's units.
      model_mode: the mode in which the penalized gradient is taken in training: `"training"`, in the pass that also
        gives the predictions, as the authors do; or `"inference"`: in a pass of its own, as an attacker meets the
        model, with BatchNormalization's moving averages and without dropout.
      fraction: the part of each training batch, from its first example, whose penalty is taken: an estimate of
        that of all. The part and the rest are run apart, so that BatchNormalization sees two smaller batches.

    Raises:
      ValueError: if the weight or the random start is negative or not finite, another number is out of its
        range, or an option is unknown.
      TypeError: if `perturbation` is not a `Perturbation`.

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients",
    2021. They differentiate a batch's mean loss in normalized coordinates: `weight_from_paper` converts. For the
    finite difference, Finlay and Oberman, "Scaleable input gradient regularization for adversarial robustness",
    2021.
    """

    def __init__(
        self,
        perturbation,
        weight,
        *,
        loss=None,
        random_start=0.0,
        gradient_at="start",
        gradient_norm="squared_l2",
        gradient="analytic",
        method="exact",
        step=0.01,
        model_mode="training",
        fraction=1.0,
    ):
        if not isinstance(perturbation, Perturbation):
            raise TypeError(f"Expected `perturbation` to be a Perturbation. Received {perturbation!r}.")
        self.perturbation = perturbation
        self.weight = expect_not_negative("weight", weight)
        self.loss = expect_loss(loss)
        self.random_start = expect_not_negative("random_start", random_start)
        self.gradient_at = expect_one_of("gradient_at", gradient_at, GRADIENT_PLACES)
        self.gradient_norm = expect_one_of("gradient_norm", gradient_norm, GRADIENT_NORMS)
        self.gradient = expect_one_of("gradient", gradient, GRADIENTS)
        self.method = expect_one_of("method", method, METHODS)
        self.step = expect_positive("step", step)
        self.model_mode = expect_one_of("model_mode", model_mode, MODEL_MODES)
        self.fraction = expect_positive("fraction", fraction)
        if self.fraction > 1:
            raise ValueError(f"Expected `fraction` to be at most 1. Received {fraction!r}.")

    def __call__(
        self, model, images, labels, loss=None, *, sample_weight=None, training=True, seed=None, start_scale=1.0
    ):
        """Runs the model once on each image, and computes the penalty.

        Args:
          model: a callable Keras model, images to predictions.
          images: `[batch, height, width, channels]`.
          labels: as the loss takes them.
          loss: the Keras loss that is trained; `None` for the one the model was compiled with.
          sample_weight: `[batch]`, multiplies each example's penalty, as Keras does each example's loss.
          training: the mode the model is run in. Outside training there is no random start, so that
            the penalty can be repeated.
          seed: `[2]` integers for the random start; `None` draws from TensorFlow's global generator.
          start_scale: multiplies the random start; 0 for none.

        Returns:
          `(predictions, penalty)`: the model's predictions for the (started) images, and the unweighted
          penalty, a float32 scalar (float64 for float64 images).

        Raises:
          ValueError, TypeError: if images, labels or loss are not as above, or the predictions do not
            depend on the images.
        """
        images, labels, loss = as_images(images), tf.convert_to_tensor(labels), self._penalized_loss(loss, model)
        if not training or self.fraction == 1:
            return self._of_all(model, images, labels, loss, sample_weight, training, seed, start_scale)
        count = tf.maximum(whole_examples(self.fraction, images), 1)
        weights = None if sample_weight is None else sample_weight[:count]
        predictions, penalty = self._of_all(
            model, images[:count], labels[:count], loss, weights, training, seed, start_scale
        )
        # The rest is never empty, which BatchNormalization could not average.
        first = tf.minimum(count, tf.shape(images)[0] - 1)
        others = model(images[first:], training=training)
        return tf.concat([predictions[:first], others], axis=0), penalty

    def _penalized_loss(self, loss, model):
        trained = compiled_loss(model) if loss is None else resolve_loss(loss)
        return resolve_loss(self.loss, trained)

    def _of_all(self, model, images, labels, loss, sample_weight, training, seed, start_scale):
        """The predictions and the penalty of a whole batch."""
        images, parameters = self._start(images, training, seed, start_scale)
        perturbed, pullbacks = linearize(self._sides(parameters), images, parameters)
        mode = training and self.model_mode == "training"
        predictions, losses, upstream = loss_gradient(model, perturbed, labels, loss, mode)
        if mode != training:
            predictions = model(perturbed, training=training)

        def losses_after(step):
            moved = self.perturbation.apply(images, step if parameters is None else parameters + step)
            return per_example_loss(loss, labels, model(moved, training=mode))

        gradients = [pullback(upstream) for pullback in pullbacks]
        if self.method == "exact":
            penalties = [self._per_example(gradient) for gradient in gradients]
        else:
            penalties = [self._finite_difference(gradient, losses, losses_after) for gradient in gradients]
        penalties = tf.add_n(penalties) / len(penalties)
        if sample_weight is not None:
            penalties *= tf.reshape(tf.cast(sample_weight, penalties.dtype), [-1])
        # A replica may get no examples of a last batch: its mean is 0.
        return predictions, tf.math.divide_no_nan(
            tf.reduce_sum(penalties), tf.cast(tf.size(penalties), penalties.dtype)
        )

    def _start(self, images, training, seed, scale):
        """The images and the θ that the gradient is taken at; `None` for the identity."""
        if not (training and self.random_start):
            return images, None
        start = self.perturbation.random_start(images, self.random_start, _seed(seed))
        start *= tf.cast(scale, start.dtype)
        if self.gradient_at == "identity":
            return self.perturbation.apply(images, start), None
        return images, start

    def _sides(self, parameters):
        """The perturbations whose penalties are averaged."""
        perturbation = self.perturbation if self.gradient == "analytic" else TapeLinearized(self.perturbation)
        # A random start is off the lattice, where all sides agree.
        return perturbation.sides if parameters is None else perturbation.sides[:1]

    def _finite_difference(self, gradients, losses, losses_after):
        """The penalties, with the difference of two losses for their derivative.

        The derivative of a penalty p(g) is ∂p/∂g · ∂g, and ∂p/∂g · g is the slope of the loss along the fixed
        direction ∂p/∂g.
        """
        gradients = tf.stop_gradient(gradients)
        with tf.GradientTape() as tape:
            tape.watch(gradients)
            penalties = self._per_example(gradients)
        direction = tape.gradient(penalties, gradients)
        length = balls.LInfBall(1.0).norm(direction)
        per_example = tf.reshape(length, tf.concat([tf.shape(length), tf.ones([tf.rank(direction) - 1], tf.int32)], 0))
        step = self.step * tf.math.divide_no_nan(direction, per_example)
        slopes = length * (losses_after(step) - losses) / self.step
        return penalties + slopes - tf.stop_gradient(slopes)

    def _per_example(self, gradients):
        if self.gradient_norm == "l1":
            return balls.LInfBall(1.0).dual_norm(gradients)
        lengths = balls.L2Ball(1.0).dual_norm(gradients)
        return lengths if self.gradient_norm == "l2" else tf.square(lengths)

    def get_config(self):
        return {
            "perturbation": keras.saving.serialize_keras_object(self.perturbation),
            "weight": self.weight,
            "loss": keras.saving.serialize_keras_object(self.loss),
            "random_start": self.random_start,
            "gradient_at": self.gradient_at,
            "gradient_norm": self.gradient_norm,
            "gradient": self.gradient,
            "method": self.method,
            "step": self.step,
            "model_mode": self.model_mode,
            "fraction": self.fraction,
        }

    @classmethod
    def from_config(cls, config):
        config = {**config, "loss": deserialize_loss(config["loss"])}
        if "perturbation" in config:
            config["perturbation"] = keras.saving.deserialize_keras_object(config["perturbation"])
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowGradientRegularizer(GradientRegularizer):
    """Flow-gradient regularization: penalizes ∂loss/∂flow.

    A model with a smooth activation (swish, GELU) gains much more by it than one with ReLU, whose gradients jump:
    docs/reproduction.md has the figures.

    Args:
      weight: as `GradientRegularizer`; `weight_from_paper` converts the paper's λ.
      random_start: standard deviation of each displacement's start, in pixels.
      lattice: the warp's derivative at integer positions: `"forward"`, `"backward"`, `"central"` or
        `"two_sided"`; see `ops.warp`.
      implementation: whose warp: `"native"`, `"tfa"` or `"auto"`.
      **options: `loss`, `gradient_at`, `gradient_norm`, `gradient`, `method`, `step`, `model_mode` and `fraction`, as
        `GradientRegularizer`.

    Raises:
      ValueError: if an option is out of its range or unknown.
    """

    def __init__(self, weight, *, random_start=0.0, lattice="two_sided", implementation="native", **options):
        super().__init__(Flow(lattice, implementation), weight, random_start=random_start, **options)

    def get_config(self):
        config = super().get_config()
        del config["perturbation"]
        return {**config, **self.perturbation.get_config()}


@keras.saving.register_keras_serializable(package="keras_flowreg")
class InputGradientRegularizer(GradientRegularizer):
    """Input-gradient regularization: penalizes ∂loss/∂image.

    Args:
      weight: as `GradientRegularizer`.
      **options: `loss`, `random_start` (standard deviation in the units of the image's values), `gradient_at`,
        `gradient_norm`, `gradient`, `method`, `step`, `model_mode` and `fraction`, as `GradientRegularizer`.

    Reference: Drucker and LeCun, "Improving generalization performance using double backpropagation",
    1992; Ross and Doshi-Velez, "Improving the adversarial robustness and interpretability of deep neural
    networks by regularizing their input gradients", 2018.
    """

    def __init__(self, weight, **options):
        super().__init__(Additive(), weight, **options)

    def get_config(self):
        config = super().get_config()
        del config["perturbation"]
        return config


def whole_examples(fraction, images):
    """That fraction of a batch, rounded to whole examples."""
    return tf.cast(tf.round(fraction * tf.cast(tf.shape(images)[0], tf.float32)), tf.int32)


def _seed(seed):
    if seed is None:
        return tf.random.uniform([2], minval=0, maxval=tf.int32.max, dtype=tf.int32)
    return seed

"""A Keras model that is trained with a gradient regularizer, on adversarial images, or both."""

from typing import Any, NamedTuple, Optional

import keras
import tensorflow as tf

from keras_flowreg import checks, compat, states
from keras_flowreg.attacks import Attack
from keras_flowreg.attacks.base import expect_untargeted
from keras_flowreg.compilation import CompiledForMachine
from keras_flowreg.gradients import expect_differentiable_images
from keras_flowreg.guard import GuardedModel, expect_batch
from keras_flowreg.ops import random
from keras_flowreg.ops.losses import compiled_loss, expect_labels_in_range
from keras_flowreg.ops.matching import expect_classifier, expect_one_output
from keras_flowreg.ops.requirements import collected_requirements
from keras_flowreg.ops.validation import (
    expect_boolean,
    expect_finite,
    expect_fraction,
    expect_instance,
    expect_positive_integer,
    expect_seed,
)
from keras_flowreg.regularizers import Regularizer, whole_examples
from keras_flowreg.scales import ScaledModel
from keras_flowreg.types import Config, Images, KerasModel, Predictions, Scalar


class _Losses(NamedTuple):
    """One replica's part of the loss of a batch."""

    total: Scalar
    task: Scalar
    penalty: Optional[Scalar]  # the mean over this replica's examples, without its weight; `None` if it is not taken


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowRegularizedModel(GuardedModel, ScaledModel, CompiledForMachine):
    """Trains a classifier with a penalty on its loss's gradient with respect to a perturbation.

        loss = task_loss + regularizer.weight * gradient_penalty

    where `task_loss` is what Keras would minimize alone. With an attack, the task is to classify adversarial images. The
    model is compiled, fitted, evaluated and saved like any Keras model. `base_model` is the classifier itself.

    ```python
    regularized = fr.FlowRegularizedModel(model, fr.FlowGradientRegularizer(weight=4.4, random_start=0.155))
    regularized.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    regularized.fit(images, labels, epochs=2, verbose=0, callbacks=[fr.callbacks.PenaltyWarmup(epochs=1)])
    ```

    The logs are `loss`, `task_loss`, the penalty without its weight (`gradient_penalty`, or whatever `penalty_name` the
    regularizer has) and the metrics. In validation, a gradient penalty is taken at the identity, without a random start.

    Args:
      base_model: a Keras model (Sequential, functional or subclassed), from images `[batch, height, width, channels]` to
        logits or probabilities. It is trained in place.
      regularizer: a `Regularizer`; `None` for plain training.
      attack: an untargeted `Attack`, whose adversarial images are trained on; `None` for clean ones. It raises its own
        loss, or else the one that this model is compiled with.
      penalty_every: how many batches one penalty stands for. With 4, it is taken in each fourth batch, with four times its
        weight. The others have no random start. With `gradient_accumulation_steps` too, batches are counted.
      clean_fraction: the part of each batch, rounded to whole examples from its first on, that is not attacked.
      seed: a whole number, which decides the regularizer's random starts and the attack's draws.
      check_layers: whether layers that Keras does not ship are tried before the first step of a penalty: by
        `checks.second_derivative` for one that needs it, and whether they draw the same noise in both passes for one that takes
        two. Under a distribution strategy none is.
      name: the name of the model.

    Attributes:
      base_model: the classifier.
      regularizer: the regularizer, or `None`.
      attack: the attack, or `None`.
      penalty_scale, epsilon_scale, attack_scale: the factors of the penalty's weight, of the regularizer's ε and of the
        attack's θ: variables, or `None` where there is no such thing. Callbacks set them while `fit` runs, after which they
        are 1 again. Nothing saves them.

    Raises:
      TypeError: if `base_model` is not a Keras model, `regularizer` not a `Regularizer`, or `attack` not an `Attack`.
      ValueError: if `base_model` has several inputs or outputs, the attack is targeted, or a number is out of its range.

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021.
    """

    def __init__(
        self,
        base_model: KerasModel,
        regularizer: Optional[Regularizer] = None,
        attack: Optional[Attack] = None,
        *,
        penalty_every: int = 1,
        clean_fraction: float = 0.0,
        seed: int = 0,
        check_layers: bool = True,
        name: Optional[str] = None,
    ):
        expect_classifier("base_model", base_model)
        if regularizer is not None:
            expect_instance("regularizer", regularizer, Regularizer)
            expect_differentiable_images(base_model)
        if attack is not None:
            expect_untargeted(attack)
        super().__init__(name=name, dtype=base_model.variable_dtype)
        self.base_model = base_model
        self.regularizer = regularizer
        self.attack = attack
        self.penalty_every = expect_positive_integer("penalty_every", penalty_every)
        self.clean_fraction = expect_fraction("clean_fraction", clean_fraction)
        if self.clean_fraction == 1:
            raise ValueError(f"Expected `clean_fraction` to be less than 1. Received {clean_fraction!r}.")
        self.seed = expect_seed(seed)
        self.check_layers = expect_boolean("check_layers", check_layers)
        self._is_checked = False
        # By these names Keras 2 saves each apart, and not as one of `metrics`, which has a penalty or not.
        self.total_tracker = keras.metrics.Mean(name="loss")
        self.task_tracker = keras.metrics.Mean(name="task_loss")
        self.penalty_tracker = keras.metrics.Mean(name=getattr(regularizer, "penalty_name", "penalty"))
        if regularizer is not None:
            self._add_scale("penalty_scale")
            if regularizer.epsilon is not None:
                self._add_scale("epsilon_scale")
        if attack is not None:
            self._add_scale("attack_scale")
        if base_model.built and getattr(base_model, "inputs", None):
            self.build(base_model.input_shape)
        # Tools that explain a model read them.
        self.inputs, self.outputs = getattr(base_model, "inputs", None), getattr(base_model, "outputs", None)
        self.output_names = getattr(base_model, "output_names", None)  # by which losses and metrics may be named

    def call(self, images: Images, training: Optional[bool] = None) -> Predictions:
        # Keras hands `training` on to the base model by its call context, whether it takes it or not.
        return self.base_model(images)

    def train_step(self, data: Any) -> dict[str, Any]:
        with collected_requirements() as requirements:
            images, labels, sample_weight = expect_batch(data, self.base_model, compiled_loss(self))
            self._check_layers(images)
            statistics = states.statistics(self.base_model)
            if self.attack is not None:
                images = self._attacked(self.attack, images, labels)
            predictions, total, gradients = self._step(images, labels, sample_weight)
            expect_finite(total, "loss")
            self.expect_finite_gradients(gradients)
        is_good = self.are_met(requirements)
        self.apply_if(is_good, gradients)
        statistics.restore_unless(is_good)
        return self.compute_metrics(images, labels, predictions, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        with collected_requirements() as requirements:
            images, labels, sample_weight = expect_batch(data, self.base_model, compiled_loss(self))
            predictions, penalty = self._predict(images, labels, sample_weight, training=False)
            losses = self._parts_of_loss(images, labels, sample_weight, predictions, penalty)
        self.are_met(requirements)
        self._log(losses, images)
        return self.compute_metrics(images, labels, predictions, sample_weight)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        own = [self.total_tracker, self.task_tracker]
        if self.regularizer is not None:
            own.append(self.penalty_tracker)
        trackers = (self.total_tracker, self.task_tracker, self.penalty_tracker, self._unmet)
        # Keras's own "loss" is the task loss alone.
        others = [
            metric for metric in super().metrics if metric.name != "loss" and all(metric is not t for t in trackers)
        ]
        return own + others

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves the model as `keras.Model.save` does, with the same arguments; not as HDF5, which cannot be loaded again."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                f"Expected a path that ends in .keras. Received {filepath}: only `base_model` can be saved as HDF5."
            )
        super().save(filepath, *args, **kwargs)

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "base_model": keras.saving.serialize_keras_object(self.base_model),
            "regularizer": keras.saving.serialize_keras_object(self.regularizer),
            "attack": keras.saving.serialize_keras_object(self.attack),
            "penalty_every": self.penalty_every,
            "clean_fraction": self.clean_fraction,
            "seed": self.seed,
            "check_layers": self.check_layers,
        }

    @classmethod
    def from_config(cls, config: Config, custom_objects: Optional[dict[str, Any]] = None) -> "FlowRegularizedModel":
        config = dict(config)
        config["base_model"] = keras.layers.deserialize(config["base_model"], custom_objects=custom_objects)
        config["regularizer"] = keras.saving.deserialize_keras_object(config["regularizer"], custom_objects)
        if config["attack"] is not None:
            config["attack"] = keras.layers.deserialize(config["attack"], custom_objects=custom_objects)
        return cls(**config)

    def _attacked(self, attack, images, labels):
        """The batch, with all but its clean fraction replaced by adversarial images."""
        clean = whole_examples(self.clean_fraction, images)
        chosen = images[clean:]
        found = attack.run(chosen, labels[clean:], model=self, seed=self._step_seed(), stop_when_fooled=False)
        scaled = tf.cast(self.attack_scale, found.parameters.dtype) * found.parameters
        moved = tf.clip_by_value(attack.perturbation.apply(chosen, scaled), *attack.value_range)
        attacked = tf.concat([images[:clean], moved], axis=0)
        return tf.ensure_shape(attacked, images.shape)

    def _check_layers(self, images):
        """Tries the layers of the user's own, once."""
        if not self.check_layers or self.regularizer is None or self._is_checked or tf.distribute.has_strategy():
            return
        self._is_checked = True
        if self.regularizer.needs_second_derivative:
            checks.expect_second_derivative(self.base_model, images.shape)
        if self.regularizer.needs_same_draws:
            checks.expect_repeatable_draws(self.base_model, images.shape)

    def _step(self, images, labels, sample_weight):
        """The predictions, this replica's total loss, and its derivative with respect to each weight."""

        def step(penalized_steps):
            return self._predict_and_differentiate(images, labels, sample_weight, penalized_steps)

        if self.regularizer is None or self.penalty_every == 1:
            return step(1)
        # All derivatives are taken inside: TensorFlow's second derivative of a fused BatchNormalization is wrong through
        # a condition.
        is_due = tf.equal(tf.cast(compat.batches_seen(self.optimizer), tf.int32) % self.penalty_every, 0)
        return tf.cond(is_due, lambda: step(self.penalty_every), lambda: step(0))

    def _predict_and_differentiate(self, images, labels, sample_weight, penalized_steps):
        try:
            with tf.GradientTape() as tape:
                predictions, penalty = self._predict(images, labels, sample_weight, True, penalized_steps)
                losses = self._parts_of_loss(images, labels, sample_weight, predictions, penalty, penalized_steps)
            gradients = compat.gradients(self.optimizer, tape, losses.total, self.trainable_variables)
        except (LookupError, TypeError, AssertionError) as error:
            if self.regularizer is None or not checks.says_no_derivative(error):
                raise
            twice = self.regularizer.needs_second_derivative
            raise checks.without_derivative(self.base_model, images.shape, error, twice) from error
        self._log(losses, images)
        return predictions, losses.total, gradients

    def _predict(self, images, labels, sample_weight, training, penalized_steps=1):
        """The predictions, and the penalty if it is taken, which stands for a number of steps; 0 for no penalty."""
        if self.regularizer is None or not penalized_steps:
            return expect_one_output(self(images, training=training)), None
        radius = 1.0 if self.epsilon_scale is None else self.epsilon_scale
        return self.regularizer(
            self,
            images,
            labels,
            sample_weight=sample_weight,
            training=training,
            seed=self._step_seed() if training else None,
            # Nothing is started from where nothing is penalized: weight 0 is plain training.
            start_scale=tf.cast(self._penalty_weight() > 0, tf.float32) * radius,
        )

    def _parts_of_loss(self, images, labels, sample_weight, predictions, penalty, penalized_steps=1):
        """This replica's `_Losses`."""
        labels = expect_labels_in_range(labels, predictions, compiled_loss(self))
        task = self.compute_loss(images, labels, predictions, sample_weight)
        task = tf.cast(task, tf.float32) if task.dtype.size < 4 else task  # of a model in half precision
        if penalty is None:
            return _Losses(task, task, None)
        # The replicas' gradients are added up.
        weighted = tf.cast(self._penalty_weight() * penalized_steps, penalty.dtype) * penalty / _replicas_of(task)
        return _Losses(task + tf.cast(weighted, task.dtype), task, penalty)

    def _penalty_weight(self):
        regularizer: Any = self.regularizer
        return regularizer.weight * tf.convert_to_tensor(self.penalty_scale)

    def _log(self, losses, images):
        """Puts the parts of the loss into the logs."""
        examples, parts = tf.shape(images)[0], _replicas_of(losses.task)
        self.total_tracker.update_state(losses.total * parts, sample_weight=examples)
        self.task_tracker.update_state(losses.task * parts, sample_weight=examples)
        if losses.penalty is not None:
            self.penalty_tracker.update_state(losses.penalty, sample_weight=examples)

    def _step_seed(self):
        """A seed for each step and replica, that a resumed training finds again."""
        step = tf.cast(compat.batches_seen(self.optimizer), tf.int32)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return random.fold_in(tf.stack([self.seed, step]), replica)


def _replicas_of(task):
    """Of how many parts, one for each replica, a loss is the sum. One without a reduction, `[batch]`, is whole."""
    return 1 if task.shape.rank else tf.distribute.get_strategy().num_replicas_in_sync

"""A Keras model as a list of steps, read from its layers."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.certification import (  # noqa: F401  They fill the table.
    application_rules,
    attention_rules,
    linear_rules,
    merging_rules,
    normalization_rules,
    pooling_rules,
)
from keras_flowreg.certification.activations import LeakyReLU
from keras_flowreg.certification.calls import layer_calls, tensor_keys
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.layouts import Layout
from keras_flowreg.certification.operation_rules import operation_steps
from keras_flowreg.certification.rows import fitted
from keras_flowreg.certification.rules import (
    described,
    expect_float32,
    expect_no_quantization,
    has_rule,
    steps_of,
    unknown,
)
from keras_flowreg.certification.steps import Elementwise, Step, Taking
from keras_flowreg.certification.tracing import traced
from keras_flowreg.ops import random
from keras_flowreg.ops.matching import expect_one_output
from keras_flowreg.types import Images, KerasModel, Predictions

_CHECKED_EXAMPLES = 4
_TOLERANCE = 1e-3
_EXACT_DTYPES = ("float32", "float64")  # that keep every number of float32


class Place(NamedTuple):
    """A step in a network: which values it takes. It gives the value of its own number."""

    step: Step
    inputs: tuple[int, ...]
    output: int
    layer: str  # whose step it is
    training: Optional[bool] = None  # the mode that is written into the layer's call

    def interval(self, values: Sequence[Interval], rounding: float = 0.0) -> Interval:
        """The interval of its output, of those of all values; see `Network.intervals`."""
        interval = self.step.interval(*(values[number] for number in self.inputs))
        terms = self.terms(values) if rounding else None
        return (interval if terms is None else interval.widened(rounding * terms)).without_nan()

    def terms(self, values: Sequence[Interval]) -> Optional[tf.Tensor]:
        """The sum of the absolute terms of each output, at most, over the whole batch; see `Step.terms`."""
        return self.step.terms(*(values[number].largest for number in self.inputs))


class Network:
    """The steps of a model, in order. Value 0 is the images.

    Args:
      model: a Keras model. What has a `call` of its own is traced; see `tracing`.
      image_shape: `(height, width, channels)`.

    Attributes:
      places: the steps.
      output: the number of the predictions' value.
      logits: the same, or that of the value before a last softmax or sigmoid.

    Raises:
      ValueError: if a layer has no rule, and no `call` that can be traced; see `register_rule`.
    """

    def __init__(self, model: KerasModel, image_shape: Sequence[int]):
        self.places: list[Place] = []
        self._of_black = [tf.zeros([1, *image_shape])]  # the first values for a black image
        self._layouts = [Layout()]  # of all values
        outputs = self._add(model, (0,))
        if len(outputs) != 1:
            raise ValueError(f"Expected a model with one output. Received {described(model)} with {len(outputs)}.")
        self.output = self.logits = outputs[0]
        if self._layouts[self.output] != Layout():
            raise ValueError(
                f"Expected predictions of each image alone. Received several of {described(model)} for each."
            )
        if self.last is not None and self.last.keeps_class:
            (self.logits,) = self.places[self.output - 1].inputs

    @property
    def last(self) -> Optional[Step]:
        """The step that gives the predictions, if there is one: a layer may give other values behind it."""
        return self.places[self.output - 1].step if self.output else None

    @property
    def places_before_logits(self) -> list[Place]:
        """The steps that the logits depend on, or may."""
        return self.places[: self.logits]

    @property
    def activations(self) -> list[Any]:
        """Places of functions of each number on its own, `Elementwise`, before the logits."""
        return [place for place in self.places_before_logits if isinstance(place.step, Elementwise)]

    @property
    def relus(self) -> list[Any]:
        """Those of `LeakyReLU`, of which the line below may have other slopes."""
        return [place for place in self.activations if isinstance(place.step, LeakyReLU)]

    def intervals(self, images: Interval, rounding: float = 0.0) -> list[Interval]:
        """The interval of every value, step by step; wider by a part of the terms that a value is the sum of."""
        values = [images]
        for place in self.places:
            values.append(place.interval(values, rounding))
        return values

    def values(self, images: Images) -> list[tf.Tensor]:
        """Every value, step by step."""
        values = [images]
        for place in self.places:
            values.append(place.step.value(*(values[number] for number in place.inputs)))
        return values

    def in_training(self, images: Images) -> "Network":
        """The network that trains on a batch of images: by the batch's statistics, without what is random."""
        if not any(place.step.has_statistics for place in self.places):
            return self
        trained = copy.copy(self)
        trained.places, values = [], [images]
        for place in self.places:
            taken = [values[number] for number in place.inputs]
            step = place.step if place.training is False else place.step.in_training(*taken)
            trained.places.append(place._replace(step=step))
            values.append(step.value(*taken))
        return trained

    def predictions(self, logits: tf.Tensor) -> Predictions:
        """What the model makes of its logits: probabilities, if it ends in a softmax or sigmoid."""
        return logits if self.logits == self.output else self.places[self.output - 1].step.value(logits)

    def check(self, model: KerasModel, images: Images) -> None:
        """Checks that the steps compute what the model does, and that each is what its class says.

        Raises:
          ValueError: if they do not, or one is not.
        """
        images = images[:_CHECKED_EXAMPLES]
        others = random.uniform(tf.shape(images), (0, 0), tf.reduce_min(images), tf.reduce_max(images))
        images = tf.concat([images, others], axis=0)
        predictions = expect_one_output(model(images, training=False))
        values = self.values(images)
        computed = values[self.output]
        if predictions.shape.rank != 2 or computed.shape != predictions.shape:
            raise ValueError(
                f"Expected predictions of the shape [batch, classes]. Received {predictions.shape} of the model, and "
                f"{computed.shape} by its layers' rules."
            )
        if not tf.reduce_all(tf.math.is_finite(predictions)):
            raise ValueError("Expected finite predictions. Received NaN or infinity: are all weights finite?")
        error = tf.reduce_max(tf.abs(tf.cast(predictions, computed.dtype) - computed))
        if not error <= _TOLERANCE * (1 + tf.reduce_max(tf.abs(computed))):
            raise ValueError(
                "Expected a model that computes what its layers' rules say. Received one whose predictions differ by "
                f"{error:g}: one of its layers may have a rule that is not its own, or the model a `call` of its own."
            )
        for place in self.places:
            place.step.check([values[number].shape[1:] for number in place.inputs], place.layer)

    def _add(self, layer, inputs, training=None, call=None):
        """Adds the steps of a layer, or of all layers of a model; returns the numbers of its outputs, or what is always the same.

        `call` is the layer's `call` as a function of the inputs, where that is not the `call` itself.
        """
        if isinstance(layer, keras.Model) and _is_made_of_layers(layer):
            _expect_no_rounding_of_inputs(layer)
            add = self._add_chain if isinstance(layer, keras.Sequential) else self._add_graph
            return add(layer, inputs, training)
        if has_rule(layer):
            return self._add_steps(steps_of(layer), inputs, layer, training)
        expect_float32(layer)
        expect_no_quantization(layer)
        model, outputs = traced(layer, call or layer.call, self._shapes(inputs))
        numbers = iter(self._add_graph(model, inputs, training, is_traced=True))
        return tuple(each if isinstance(each, tf.Tensor) else next(numbers) for each in outputs)

    def _shapes(self, numbers):
        """The shapes of values as the model has them, with a batch of one image."""
        for place in self.places[len(self._of_black) - 1 : max(numbers)]:
            self._of_black.append(place.step.value(*(self._of_black[number] for number in place.inputs)))
        return [self._layouts[number].outer(self._of_black[number]).shape for number in numbers]

    def _add_steps(self, steps, inputs, layer, training):
        steps = [each if isinstance(each, Taking) else Taking(each, ()) for each in steps]
        if training and (compat.draws_at_random(layer) or any(each.step.has_statistics for each in steps)):
            raise ValueError(
                f"Expected layers in the mode of their model. Received {described(layer)}, called with training=True."
            )
        numbers = [*inputs]
        for step, values in steps:
            taken = tuple(numbers[value] for value in values) or tuple(inputs)
            try:
                step, layout = fitted(step, [self._layouts[number] for number in taken])
            except ValueError as error:
                raise unknown(layer, f"of values {error}") from error
            self.places.append(Place(step, taken, len(self.places) + 1, described(layer), training))
            self._layouts.append(layout)
            inputs = (self.places[-1].output,)
            numbers += inputs
        return inputs

    def _add_chain(self, model, inputs, training):
        for layer in model.layers:
            inputs = self._add(layer, inputs, training)
        return inputs

    def _add_graph(self, model, inputs, training, is_traced=False):
        numbers, known = dict(zip(tensor_keys(model.inputs), inputs)), dict[int, Any]()
        for call in layer_calls(model):
            call = call.given(known)
            taken = tuple(numbers[key] for key in call.inputs)
            value = self._known(call, taken)
            if value is not None:
                known.update(zip(call.outputs, tf.nest.flatten(value)))
                continue
            written = True if is_traced and call.sets_training else call.training
            given = self._add_call(call, taken, training if written is None else written)
            if len(given) != len(call.outputs):
                raise ValueError(
                    f"Expected layers with one output. Received {described(call.layer)} with {len(call.outputs)}."
                )
            for key, each in zip(call.outputs, given):
                (known if tf.is_tensor(each) else numbers)[key] = each
        return tuple(numbers[key] for key in tensor_keys(model.outputs))

    def _known(self, call, inputs):
        """What a call gives whatever the images are, of which there is one; or `None`."""
        if compat.operation_name(call.layer) == "shape":
            (shape,) = self._shapes(inputs)
            return call.run(tf.zeros(shape))
        return None if inputs else call.run()

    def _add_call(self, call, inputs, training):
        if compat.is_operation(call.layer):
            layouts = [self._layouts[number] for number in inputs]
            steps = [operation_steps(part, lambda: self._shapes(inputs), layouts) for part in call.parts()]
            return tuple(number for each in steps for number in self._add_steps(each, inputs, call.layer, training))
        if has_rule(call.layer) and (call.has_mask or any(argument is not None for argument in call.arguments)):
            raise ValueError(
                "Expected layers that take nothing but what other layers give. "
                f"Received {described(call.layer)}, called with a constant, such as an array, or with a mask."
            )
        return self._add(call.layer, inputs, training, call.run)


def _expect_no_rounding_of_inputs(model):
    """Checks the dtype to which Keras casts what a model takes: flows move pixels by less than a whole number."""
    for tensor in getattr(model, "inputs", None) or ():
        dtype = tf.as_dtype(tensor.dtype).name
        if dtype not in _EXACT_DTYPES:
            raise ValueError(
                f"Expected models with an input of float32, which their bounds are about. Received {described(model)}, "
                f'which rounds its input to {dtype}: build it with keras.Input(shape, dtype="float32").'
            )


def _is_made_of_layers(model):
    """Whether a model does nothing but call the layers of its graph, by Keras's own code."""
    is_functional = isinstance(model, keras.Sequential) or hasattr(model, "_nodes_by_depth")
    return is_functional and compat.runs_its_layers(model)

"""The calls that a functional model is made of."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.types import KerasModel


class LayerCall(NamedTuple):
    """A call of a layer or of an operation. A key stands for one tensor of the graph; see `tensor_keys`."""

    layer: Any
    inputs: list[int]  # keys
    outputs: list[int]  # keys
    positional: tuple[Any, ...]  # what it was called with, with tensors of the graph among it
    named: dict[str, Any]
    part: Optional[int] = None  # the only one of several outputs that `run` gives

    @property
    def training(self) -> Optional[bool]:
        """The mode that the model's own does not change, if one is written into the call."""
        return compat.written_mode(self._by_name().get("training"))

    @property
    def sets_training(self) -> bool:
        """Whether the mode of training is written into the call; in a `call` of a layer's own it is that of Keras 3, too."""
        training = self.named_argument("training")
        return isinstance(training, (bool, int)) and bool(training)

    @property
    def has_mask(self) -> bool:
        """Whether it was called with a mask."""
        return any("mask" in name and value is not None for name, value in self._by_name().items())

    @property
    def arguments(self) -> list[Any]:
        """What it was called with but for the mode, by position: `None` for a tensor of the graph."""
        arguments = self._by_name()
        arguments.pop("training", None)
        return [None if id(each) in self.inputs else each for each in tf.nest.flatten(arguments) if each is not None]

    def given(self, values: Mapping[int, Any]) -> "LayerCall":
        """The call with values that are known in the places of their keys."""
        positional, named = self._with(values)
        inputs = [key for key in self.inputs if key not in values]
        return self._replace(inputs=inputs, positional=positional, named=named)

    def with_inputs_in_order(self) -> "LayerCall":
        """The call with its inputs in the order of its parameters. Keras sorts those that are given by name."""
        parts = [each for argument in self._by_name().values() for each in tf.nest.flatten(argument)]
        inputs = [id(each) for each in parts if id(each) in self.inputs]
        return self._replace(inputs=inputs) if sorted(inputs) == sorted(self.inputs) else self

    def named_argument(self, name: str) -> Any:
        """What it was called with by the name of a parameter, or `None`."""
        return self._by_name().get(name)

    def with_argument(self, name: str, value: Any) -> "LayerCall":
        """The call with another value for a parameter that it was called with."""
        bound = self._bound()
        bound.arguments[name] = value
        return self._replace(positional=bound.args, named=bound.kwargs)

    def run(self, *tensors: Any) -> Any:
        """What the operation gives, or the `call` of the layer, of tensors for the inputs."""
        positional, named = self._with(dict(zip(self.inputs, tensors)))
        found = compat.function_of(self.layer)(*positional, **named)
        return found if self.part is None else tf.nest.flatten(found)[self.part]

    def parts(self) -> list["LayerCall"]:
        """For each output, the call that gives it alone."""
        return [self._replace(outputs=[output], part=number) for number, output in enumerate(self.outputs)]

    def _with(self, values):
        return tf.nest.map_structure(lambda each: values.get(id(each), each), (self.positional, self.named))

    def _by_name(self):
        """What it was called with, by the names of parameters."""
        bound = self._bound()
        arguments = dict(bound.arguments)
        for parameter in bound.signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments |= arguments.pop(parameter.name, {})
        return arguments

    def _bound(self):
        return inspect.signature(self.layer.call).bind(*self.positional, **self.named)


def layer_calls(model: KerasModel) -> list[LayerCall]:
    """Every call in a functional model, in order; `tensor_keys` gives the keys of its own inputs and outputs."""
    calls = [
        LayerCall(layer, tensor_keys(inputs), tensor_keys(outputs), tuple(positional), _without_mode(layer, named))
        for layer, inputs, outputs, positional, named in compat.nodes(model)
    ]
    return [call.with_inputs_in_order() for call in calls]


def _without_mode(layer, named):
    """What a layer is called with by name; not the mode, where its `call` has none, as Keras leaves it out."""
    has_mode = "training" in inspect.signature(layer.call).parameters
    return {name: value for name, value in named.items() if name != "training" or has_mode}


def tensor_keys(tensors: Any) -> list[int]:
    """A key for each symbolic tensor."""
    return [id(tensor) for tensor in tf.nest.flatten(tensors)]

"""What tells one classifier from another: its weights, and what it computes with them.

A tensor's checksum is that of the operation that gives it, with its attributes and the checksums of what it takes. So the
checksum of the predictions stands for the whole computation: which operation takes which tensor, and not in which order, or
under which names, a graph lists them.
"""

import graphlib
import hashlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.attacks.runner import traced_classifier
from keras_flowreg.evaluation.journal import digest
from keras_flowreg.types import KerasModel
from keras_flowreg.wrapped import Restored, classifier_of

# Operations that only hand a tensor on, and those that call a function with what they take.
_PLUMBING = {"Identity", "NoOp", "ReadVariableOp"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_KINDS = ("s", "i", "f", "b", "type", "shape", "tensor", "list")  # of an operation's attributes


def identify(model: KerasModel, image_shape: tuple[int, ...]) -> dict[str, str]:
    """Checksums of a classifier's weights and of what it computes with them, without the names of its layers.

    ```python
    from keras_flowreg.evaluation.identity import identify

    print(identify(model, (8, 10, 2)))  # {"weights": "0a1b2c3d", "computation": "4e5f6a7b"}
    ```

    Args:
      model: a Keras model. Of a `FlowRegularizedModel`, the base model is meant.
      image_shape: `(height, width, channels)`.

    Returns:
      Eight hexadecimal digits each.
    """
    classifier = classifier_of(model)
    forward = traced_classifier(classifier, tf.zeros([1, *image_shape])).forward
    names = _names_of_weights(classifier)
    captured = [names[id(each)] if id(each) in names else _of_captured(each) for each in forward.captured_inputs]
    functions = _Functions(forward.graph.as_graph_def().library.function)
    predictions = functions.results(forward.function_def, ["images", *captured])
    return {"weights": digest(classifier.get_weights()), "computation": _checksum(predictions)[:8]}


class _Functions:
    """The functions of a graph, of whose results it gives the checksums."""

    def __init__(self, library: Sequence[Any]):
        self._library = {function.signature.name: function for function in library}

    def results(self, function: Any, arguments: Sequence[str]) -> list[str]:
        """The checksums of what a function returns, from those of its arguments."""
        # What a name stands for: the checksums of several tensors, or of an operation, whose outputs have names.
        known: dict[str, Any] = {
            argument.name: [given] for argument, given in zip(function.signature.input_arg, arguments)
        }
        for node in _in_order(function.node_def):
            known[node.name] = self._operation(node, [_tensor(name, known) for name in _inputs(node)])
        return [_tensor(function.ret[output.name], known) for output in function.signature.output_arg]

    def _operation(self, node, inputs):
        called = [self._library[name] for name in _called(node) if name in self._library]
        if node.op in _PLUMBING:
            return inputs
        if node.op in _CALLS:
            return self.results(called[0], inputs)
        # Of a branch or a loop, whatever it is given.
        bodies = [
            result
            for function in called
            for result in self.results(function, [f"argument {n}" for n in range(len(function.signature.input_arg))])
        ]
        return _checksum([node.op, *_attributes(node), *inputs, *bodies])


def _in_order(nodes):
    """The operations, each after those whose outputs it takes."""
    by_name = {node.name: node for node in nodes}
    takes = {node.name: {name.partition(":")[0] for name in _inputs(node)} & set(by_name) for node in nodes}
    return [by_name[name] for name in graphlib.TopologicalSorter(takes).static_order()]


def _inputs(node):
    return [name for name in node.input if not name.startswith("^")]  # What only has to come before is none.


def _tensor(name, known):
    """The checksum of "argument" or "operation:output:number"."""
    operation, *output = name.split(":")
    found = known[operation]
    return found[int(output[-1]) if output else 0] if isinstance(found, list) else _checksum([found, *output])


def _called(node):
    return [node.attr[name].func.name for name in sorted(node.attr)]


def _attributes(node):
    for name in sorted(node.attr):
        if not name.startswith("_") and node.attr[name].WhichOneof("value") in _KINDS:
            yield name
            yield node.attr[name].SerializeToString(deterministic=True).hex()


def _names_of_weights(classifier):
    """`{id of a handle: name}`, by the order of the weights; a weight may have a handle on each replica."""
    is_restored = isinstance(classifier, Restored)
    weights = classifier.restored_variables() if is_restored else compat.tf_variables(classifier.weights)
    return {
        id(part.handle): f"weight {number}"
        for number, weight in enumerate(weights)
        for part in getattr(weight, "values", (weight,))
    }


def _of_captured(tensor):
    """Of a tensor that a function finds outside of itself: its values, if it is no variable of the model's."""
    return "variable" if tensor.dtype == tf.resource else digest([tensor.numpy()])


def _checksum(parts):
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

"""What tells one classifier from another: its weights, and what it computes with them."""

import zlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from keras_flowreg.attacks.runner import traced_classifier
from keras_flowreg.evaluation.journal import digest
from keras_flowreg.types import KerasModel
from keras_flowreg.wrapped import classifier_of

# Operations that only hand a tensor on.
_PLUMBING = {"Identity", "NoOp", "Placeholder", "ReadVariableOp"}
_KINDS = ("s", "i", "f", "b", "type", "shape", "tensor", "list")  # of an operation's attributes


def identify(model: KerasModel, image_shape: tuple[int, ...]) -> dict[str, str]:
    """Checksums of a classifier's weights and of the operations that it runs, without the names of its layers.

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
    graph = traced_classifier(classifier, tf.zeros([1, *image_shape])).graph_def()
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    checksum = 0
    for part in _operations(graph.node, functions):
        checksum = zlib.crc32(part, checksum)
    return {"weights": digest(classifier.get_weights()), "computation": f"{checksum:08x}"}


def _operations(nodes: Any, functions: dict[str, Any]) -> Iterator[bytes]:
    """Each operation in its order, with its attributes, and those of the functions that are called."""
    for node in nodes:
        called = [attribute.func.name for attribute in node.attr.values() if attribute.func.name in functions]
        for name in called:
            yield from _operations(functions[name], functions)
        if not called and node.op not in _PLUMBING:
            yield node.op.encode()
            for name in sorted(node.attr):
                attribute = node.attr[name]
                if not name.startswith("_") and attribute.WhichOneof("value") in _KINDS:
                    yield name.encode() + attribute.SerializeToString(deterministic=True)

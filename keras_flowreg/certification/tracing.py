"""Layers and models of a `call` of their own, as the functional models that it amounts to.

Their `call` is run once on symbolic tensors of one image. What it does to them, by layers and by operations, is the model.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.certification.rules import unknown
from keras_flowreg.types import KerasModel

_one_at_a_time = threading.Lock()  # What is changed for a while, and set back, is Keras's and the layers'.


def traced(layer: Any, call: Callable[..., Any], shapes: Sequence[Sequence[int]]) -> tuple[KerasModel, list[Any]]:
    """What a layer does, as a functional model of a batch of one image.

    Args:
      layer: the layer; nothing about it changes.
      call: its `call`, as a function of one tensor for each input.
      shapes: of each input, for a batch of one.

    Returns:
      `(model, outputs)`: the model, and what the layer gives: the model's symbolic outputs, in order, and among them tensors
      that no image changes.

    Raises:
      ValueError: if its `call` does not take symbolic tensors, or does not give any.
    """
    try:
        with _one_at_a_time, _leaving_no_trace(layer), _without_warnings(), compat.symbols_taken_by_tensorflow():
            symbols = [keras.Input(shape[1:], batch_size=shape[0], dtype="float32") for shape in shapes]
            outputs = [each for each in tf.nest.flatten(call(*symbols)) if each is not None]
            return keras.Model(symbols, [each for each in outputs if not isinstance(each, tf.Tensor)]), outputs
    except Exception as error:  # Of code that is not ours.
        reason = str(error).split("\n", 1)[0]
        raise unknown(layer, f"whose `call` failed on symbolic tensors ({reason})") from error


@contextlib.contextmanager
def _leaving_no_trace(layer: Any) -> Iterator[None]:
    """Takes back what Keras notes in each layer that is called on symbolic tensors, and their names, of which it wants others."""
    layers = list(layer._flatten_layers())
    notes = [(nodes, list(nodes)) for each in layers for nodes in (each._inbound_nodes, each._outbound_nodes)]
    names = [(vars(each), "name" if "name" in vars(each) else "_name", each.name) for each in layers]
    for number, (attributes, attribute, name) in enumerate(names):
        attributes[attribute] = f"{name}_{number}"
    try:
        yield
    finally:
        for attributes, attribute, name in names:
            attributes[attribute] = name
        for nodes, before in notes:
            nodes[:] = before


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps Keras 2 from saying that an operation with a weight of its own should be a layer's, as it is."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

"""What values must be: an error at once, an assertion in a graph, or a fault that a training step counts.

XLA drops every assertion, and a step on several replicas cannot stop in its middle. So whoever makes such a step collects
its requirements instead, and sees to them afterwards.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple, Optional

import tensorflow as tf


class Requirement(NamedTuple):
    """Something that a step needs."""

    expected: str  # "Expected ..."
    received: str  # "Received ..."
    is_met: tf.Tensor  # a scalar bool


class _Collector(NamedTuple):
    graph: tf.Graph
    requirements: list[Requirement]


_collector: contextvars.ContextVar[Optional[_Collector]] = contextvars.ContextVar("collector", default=None)


@contextlib.contextmanager
def collected_requirements() -> Iterator[list[Requirement]]:
    """Lists what is required in this scope, in its own graph, instead of asserting it."""
    collector = _Collector(tf.compat.v1.get_default_graph(), [])
    token = _collector.set(collector)
    try:
        yield collector.requirements
    finally:
        _collector.reset(token)


def are_collected() -> bool:
    """Whether requirements are collected here."""
    collector = _collector.get()
    return collector is not None and collector.graph is tf.compat.v1.get_default_graph()


def require(is_met: tf.Tensor, expected: str, received: str, values: Optional[tf.Tensor] = None) -> list[tf.Operation]:
    """Requires something of values.

    Args:
      is_met: a scalar bool.
      expected: the first sentence of the error, "Expected ...".
      received: the start of the second, "Received ...".
      values: what was received. Its least and greatest value end the error.

    Returns:
      The operations that whatever relies on it has to wait for.

    Raises:
      ValueError: outside of a graph, if it is not met (in a graph: InvalidArgumentError).
    """
    collector = _collector.get()
    if collector is not None and are_collected():
        known = {other.expected: number for number, other in enumerate(collector.requirements)}
        if expected in known:
            other = collector.requirements[known[expected]]
            collector.requirements[known[expected]] = other._replace(is_met=other.is_met & is_met)
        else:
            others = received if values is None else "Received other values in a batch"
            collector.requirements.append(Requirement(expected, others, is_met))
        return []
    limits = () if values is None else (tf.reduce_min(values), tf.reduce_max(values))
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(is_met, [f"{expected} {received}", *limits])]
    if not is_met:
        numbers = " to ".join(f"{limit:g}" for limit in limits)
        raise ValueError(f"{expected} {received} {numbers}".rstrip() + ".")
    return []

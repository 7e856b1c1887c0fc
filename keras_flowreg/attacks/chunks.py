"""Batches of few sizes, for what XLA compiles: it compiles anew for each size."""

from typing import Any, Callable

import numpy as np
import tensorflow as tf

from keras_flowreg.attacks.search import Examples

_CHUNK = 32


def filled_chunks(left: int, whole: int) -> list[tuple[np.ndarray, int]]:
    """What is left of a batch, in batches of one of two sizes: a chunk, or the whole batch.

    Args:
      left: how many examples are left.
      whole: how many there were.

    Returns:
      Of each batch the positions of its examples among those that are left, and how many they are without those that come
      again: a batch that is not full is filled up with its own examples.
    """
    size = whole if left > whole // 2 else min(_CHUNK, whole)
    chunks = [np.arange(start, min(start + size, left)) for start in range(0, left, size)]
    return [(np.resize(chunk, size), len(chunk)) for chunk in chunks]


def search_in_chunks(search: Callable[[Examples], Any], examples: Examples) -> Any:
    """Searches examples in `filled_chunks`. Outside of a graph only.

    Args:
      search: takes `Examples`, and returns tensors whose first axis is theirs.
      examples: the `Examples` that are left of a batch.

    Returns:
      What the search returns, for all examples.
    """
    found = [
        _first(count, search(examples.take(positions)._replace(compact=False)))
        for positions, count in filled_chunks(examples.images.shape[0], int(examples.whole_batch))
    ]
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *found)


def _first(count, found):
    return tf.nest.map_structure(lambda tensor: tensor[:count], found)

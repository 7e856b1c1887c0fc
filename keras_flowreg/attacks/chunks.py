"""Batches of few sizes, for searches that XLA compiles: it compiles anew for each size."""

from typing import Any, Callable

import numpy as np
import tensorflow as tf

from keras_flowreg.attacks.search import Examples

_CHUNK = 32


def search_in_chunks(search: Callable[[Examples], Any], examples: Examples) -> Any:
    """Searches examples in batches of one of two sizes: a chunk, or the whole batch that they are left of.

    A chunk that is not full is filled up with its own examples again. Outside of a graph only.

    Args:
      search: takes `Examples`, and returns tensors whose first axis is theirs.
      examples: the `Examples` that are left of a batch.

    Returns:
      What the search returns, for all examples.
    """
    left, whole = examples.images.shape[0], int(examples.whole_batch)
    size = whole if left > whole // 2 else min(_CHUNK, whole)
    chunks = [
        _search_filled(search, examples, range(start, min(start + size, left)), size) for start in range(0, left, size)
    ]
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *chunks)


def _search_filled(search, examples, rows, size):
    found = search(examples.take(np.resize(rows, size))._replace(compact=False))
    return tf.nest.map_structure(lambda tensor: tensor[: len(rows)], found)

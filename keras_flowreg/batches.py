"""Batches of images and labels, of whatever data Keras's `fit` takes."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from keras_flowreg.ops.validation import expect_positive_integer

__all__ = ["Batches"]

# (images, labels), two arrays; or batches of them
Data = Union[tf.data.Dataset, Iterable, tuple[Any, Any]]
Batch = tuple[np.ndarray, np.ndarray]  # images [batch, height, width, channels], and labels

_BATCH_SIZE = 128
# Above this, a batch of arrays has fewer images: 128 of 96x96 pixels.
_PIXELS = 128 * 96 * 96


class Batches:
    """Batches of `(images, labels)`, as arrays, which can be gone through as often as the data can.

    ```python
    batches = fr.batches.Batches((images, labels), "data", batch_size=4)
    for some_images, some_labels in batches:
        print(some_images.shape, some_labels.shape)
    ```

    Args:
      data: two arrays `(images, labels)`, or batches of them: a `tf.data.Dataset`, a Keras `Sequence` or `PyDataset`,
        anything else with `__len__` and `__getitem__`, anything that can be iterated over, or a generator. Weights
        beside the labels are not used.
      name: what errors call the data.
      batch_size: how many examples a batch of two arrays has; `None` for 128, and fewer of large images.
      examples: how many examples to take, from the first; `None` for all.
      batches: how many batches to take; `None` for all.
      read_once: whether the data need be read only once, so that a generator will do.

    Raises:
      ValueError: if the data are not such data, have no end and no number of them is given, or cannot be read again;
        when they are read, if there are none, or a batch is not images and labels.
    """

    def __init__(
        self,
        data: Data,
        name: str,
        *,
        batch_size: Optional[int] = None,
        examples: Optional[int] = None,
        batches: Optional[int] = None,
        read_once: bool = False,
    ):
        self.name = name
        self._examples = None if examples is None else expect_positive_integer("examples", examples)
        self._batches = None if batches is None else expect_positive_integer("batches", batches)
        batch_size = None if batch_size is None else expect_positive_integer("batch_size", batch_size)
        self._head: list[Batch] = []
        self._source, self._length = _source(data, name, batch_size)
        if not read_once and not self.can_be_read_again:
            raise ValueError(
                f"Expected `{name}` to be data that can be read again after each epoch, such as a tf.data.Dataset. "
                f"Received {type(data).__name__}, which can be read once."
            )
        if self._length == math.inf and examples is None and batches is None:
            raise ValueError(
                f"Expected `{name}` to have an end, or a number of examples or batches to take. Received "
                f"{type(data).__name__}, which may have none."
            )

    @property
    def can_be_read_again(self) -> bool:
        """Whether the data can be gone through more than once."""
        return not isinstance(self._source, Iterator)

    def first(self) -> Batch:
        """The first batch. It is not lost for who goes through all of them."""
        first = next(iter(self), None)
        if not self.can_be_read_again and first is not None:
            self._head = [first]
        return first if first is not None else self._fail_empty()

    def __iter__(self) -> Iterator[Batch]:
        taken = 0
        for batch in itertools.islice(self._arrays(), self._batches):
            images, labels = batch if self._examples is None else (part[: self._examples - taken] for part in batch)
            yield images, labels
            taken += len(images)
            if taken == self._examples:
                return
        if not taken:
            self._fail_empty()

    def size(self) -> Optional[int]:
        """How many batches there are, if that is known."""
        sizes = [size for size in (self._length, self._batches) if size not in (None, math.inf)]
        if self._examples is not None and sizes:
            sizes.append(math.ceil(self._examples / len(self.first()[0])))
        return None if not sizes else int(min(sizes))

    def _arrays(self):
        """Every batch, without the empty ones."""
        head, self._head = self._head, []
        yield from head
        for number, batch in enumerate(self._source):
            images, labels = _arrays_of(batch, self.name, number)
            if len(images):
                yield images, labels

    def _fail_empty(self):
        raise ValueError(f"Expected `{self.name}` to hold at least one batch. Received none.")


def _source(data, name, batch_size):
    """What gives the batches, and how many: infinity if there may be no end, `None` if it is not known."""
    if _are_arrays(data):
        data = _batched(data, name, batch_size)
    if isinstance(data, tf.data.Dataset):
        size = int(data.cardinality())
        return data, {tf.data.INFINITE_CARDINALITY: math.inf, tf.data.UNKNOWN_CARDINALITY: None}.get(size, size)
    if isinstance(data, Iterator) and not hasattr(data, "__getitem__"):
        return data, math.inf
    size = _length(data)
    if hasattr(data, "__getitem__") and not isinstance(data, (str, bytes, dict, np.ndarray, tf.Tensor)):
        return _Again(lambda: _by_number(data, size)), math.inf if size is None else size
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, dict, np.ndarray, tf.Tensor)):
        return data, size
    raise ValueError(
        f"Expected `{name}` to be (images, labels), a tf.data.Dataset of such batches, or other data that `fit` takes. "
        f"Received {type(data).__name__}."
    )


def _by_number(data, size):
    """The batches of data that are asked for by number. Going through such data itself may have no end."""
    for number in itertools.count() if size is None else range(size):
        try:
            batch = data[number]
        except IndexError:
            return
        yield batch


class _Again:
    """What can be gone through again, out of a function that makes an iterator."""

    def __init__(self, make: Callable[[], Iterator]):
        self._make = make

    def __iter__(self) -> Iterator:
        return self._make()


def _length(data):
    try:
        return len(data)
    except (TypeError, AttributeError):  # Keras 3 has data without an end.
        return None


def _are_arrays(data):
    """Whether data are two arrays, or three with weights, and not a list of batches."""
    is_short = isinstance(data, (tuple, list)) and len(data) in (2, 3)
    return is_short and not any(isinstance(part, (tuple, dict)) or _is_list_of_arrays(part) for part in data)


def _is_list_of_arrays(part):
    """Whether a list is a batch: its images, and what comes with them."""
    return isinstance(part, list) and len(part) in (2, 3) and getattr(part[0], "ndim", None) == 4


def _batched(data, name, batch_size):
    images, labels = (np.asarray(part) for part in data[:2])
    _expect_pair(images, labels, f"`{name}`")
    if batch_size is None:
        batch_size = (
            min(_BATCH_SIZE, max(_PIXELS // max(images[0].size // images.shape[-1], 1), 1)) if len(images) else 1
        )
    return [
        (images[start : start + batch_size], labels[start : start + batch_size])
        for start in range(0, len(images), batch_size)
    ]


def advice_on_pairs(data: Any) -> str:
    """What to add to an error about data that are no images with labels.

    ```python
    assert "as_supervised" in fr.batches.advice_on_pairs({"image": images, "label": labels})
    assert fr.batches.advice_on_pairs(images) == ""
    ```

    Args:
      data: what came instead of a pair.

    Returns:
      How to get pairs, for a dictionary, as those of TensorFlow Datasets; otherwise an empty string.
    """
    return ": `tfds.load(..., as_supervised=True)` gives pairs" if isinstance(data, dict) else ""


def _arrays_of(batch, name, number):
    """The images and labels of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        parts = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise ValueError(
            f"Expected `{name}` to hold batches of (images, labels), or of (images, labels, weights). "
            f"Received {type(batch).__name__}{parts}{advice_on_pairs(batch)}."
        )
    images, labels = (np.asarray(part) for part in batch[:2])
    _expect_pair(images, labels, f"batch {number} of `{name}`")
    return images, labels


def _expect_pair(images, labels, what):
    if images.ndim != 4:
        raise ValueError(
            f"Expected {what} to hold images [batch, height, width, channels]. Received shape {images.shape}: "
            "are they batched, and do they have a channel?"
        )
    if labels.ndim == 0 or len(labels) != len(images):
        raise ValueError(
            f"Expected one label for each image in {what}. Received {len(images)} images and labels of the shape "
            f"{labels.shape}."
        )

"""Early, clear errors for tensors of the wrong rank, shape or dtype."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Optional, TypeVar

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg.ops.requirements import require
from keras_flowreg.types import (
    FlowField,
    Images,
    JitCompile,
    Labels,
    Number,
    Seed,
    ValueRange,
)

_Value = TypeVar("_Value")
# The part of a value range by which rounding may lead outside of it, as after a resize.
_ROUNDING = 1e-5
_LARGEST = 2**31  # of a whole number's amount: TensorFlow counts with 32 bits


def as_images(images: Images) -> tf.Tensor:
    """Converts to a float32 or float64 `[batch, height, width, channels]` tensor of at least 2x2 pixels.

    Integers and half precision become float32, with the values that they have. Gradients are taken with respect to what
    is warped, and a model casts to its own compute dtype itself.

    Raises:
      ValueError: if the rank is not 4, or the height or width is less than 2.
      TypeError: if the images are neither integers nor floating-point numbers.
    """
    try:
        images = tf.convert_to_tensor(images)
    except (TypeError, ValueError):
        raise TypeError(f"Expected `images` to be an array of numbers. Received {type(images).__name__}.") from None
    if images.dtype.is_integer or images.dtype in (tf.float16, tf.bfloat16):
        images = tf.cast(images, tf.float32)
    expect_images(images)
    return images


def as_scalar(number: Number, dtype: tf.DType) -> tf.Tensor:
    """A number or a scalar tensor as a tensor of another dtype, at its full precision."""
    return tf.cast(number, dtype) if tf.is_tensor(number) else tf.constant(number, dtype)


def as_labels(labels: Labels) -> tf.Tensor:
    """Converts labels to a tensor of numbers.

    Raises:
      TypeError: if they are text, or anything else that is not a number.
    """
    if isinstance(labels, Mapping):
        raise TypeError(
            f"Expected `labels` to be an array of numbers. Received a dictionary of {', '.join(map(str, labels))}."
        )
    try:
        labels = labels if tf.is_tensor(labels) else np.asarray(labels)
    except ValueError:
        raise TypeError(f"Expected `labels` to be an array of numbers. Received {type(labels).__name__}.") from None
    dtype = tf.as_dtype(labels.dtype)
    if not (dtype.is_integer or dtype.is_floating or dtype.is_bool):
        raise TypeError(f"Expected `labels` to be numbers. Received {dtype.name}.")
    return tf.convert_to_tensor(labels)


def expect_images(images: tf.Tensor) -> None:
    """Checks that images are floating `[batch, height, width, channels]`, of at least 2x2 pixels."""
    if not images.dtype.is_floating:
        raise TypeError(f"Expected `images` to be floating-point numbers. Received dtype {images.dtype.name}.")
    if images.shape.rank is None:
        return
    if images.shape.rank != 4:
        raise ValueError(
            f"Expected `images` to have the shape [batch, height, width, channels]. Received shape {images.shape}."
        )
    for axis, size in (("height", images.shape[1]), ("width", images.shape[2])):
        if size is not None and size < 2:
            raise ValueError(
                f"Expected `images` to have a {axis} of at least 2 pixels, since a derivative needs two. "
                f"Received shape {images.shape}."
            )


def expect_flow(flow: FlowField, images: Optional[Images] = None) -> None:
    """Checks that a flow is floating `[batch, height, width, 2]`, and fits its images, if there are some."""
    if not flow.dtype.is_floating:
        raise TypeError(f"Expected `flow` to be floating-point numbers. Received dtype {flow.dtype.name}.")
    sizes = tf.TensorShape([None, None, None])
    if images is not None and images.shape.rank is not None:
        sizes = images.shape[:3]
    if not flow.shape.is_compatible_with(sizes.concatenate(2)):
        raise ValueError(
            f"Expected `flow` to have the shape [batch, height, width, 2]{'' if images is None else ' of its images'}, "
            f"{sizes.concatenate(2)}. Received shape {flow.shape}."
        )


def expect_finite(images: tf.Tensor, name: str = "images") -> tf.Tensor:
    """Checks that no value is NaN or infinite; returns the images, or whatever it is.

    In a graph the check is an operation, which XLA drops; see `requirements`.

    Raises:
      ValueError: if a value is not finite (in a graph: InvalidArgumentError).
    """
    is_finite = tf.reduce_all(tf.math.is_finite(images))
    waits = require(is_finite, f"Expected finite {name}.", f"Received NaN or infinity in a batch of {name}")
    with tf.control_dependencies(waits):
        return tf.identity(images) if waits else images


def expect_in_range(images: tf.Tensor, value_range: ValueRange) -> tf.Tensor:
    """Checks that images are finite and within their value range; returns them, clipped to it.

    A value that rounding has put outside by a hair is clipped. In a graph the check is an operation, which XLA drops.

    Raises:
      ValueError: if a value is NaN, infinite or outside (in a graph: InvalidArgumentError).
    """
    low, high = value_range
    slack = _ROUNDING * (high - low)
    # NaN compares with nothing. A replica may get no examples of a last batch.
    is_in_range = tf.reduce_all((images >= low - slack) & (images <= high + slack))
    expected = f"Expected finite images with values from {low} to {high} (`value_range`)."
    with tf.control_dependencies(require(is_in_range, expected, "Received values from", images)):
        return tf.clip_by_value(images, low, high)


def expect_same_batch(examples: tf.Tensor, labels: Labels, name: str = "label", of: str = "image") -> None:
    """Checks that there is one label for each example."""
    sizes = examples.shape[0] if examples.shape.rank else None, labels.shape[0] if labels.shape.rank else None
    if labels.shape.rank == 0 or (None not in sizes and sizes[0] != sizes[1]):
        raise ValueError(
            f"Expected one {name} for each {of}. Received {sizes[0]} {of}s and {name}s of the shape {labels.shape}."
        )


def expect_one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """Checks that an option has one of its named values."""
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"Expected `{name}` to be one of {', '.join(map(repr, allowed))}. Received {_short(value)}.")
    return value


def expect_number(name: str, value: Any) -> float:
    """Checks that an option is a finite number, and not a bool or text; returns it as a float."""
    try:
        number = None if isinstance(value, (bool, str, bytes)) or np.ndim(value) else _as_float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not math.isfinite(number):
        raise ValueError(f"Expected `{name}` to be a finite number. Received {_short(value)}.")
    return number


def _as_float(value):
    """A number as a float. One in single precision is that which its digits say: 0.1, not 0.10000000149."""
    is_short = getattr(value, "dtype", None) in ("float16", "float32")
    return float(str(np.asarray(value)[()]) if is_short else value)


def expect_not_negative(name: str, value: Any) -> Number:
    """Checks that a number is finite and at least 0; returns it as a float.

    A tensor in a graph, which has no value yet, is returned as it is.
    """
    if _has_no_value_yet(value):
        return value
    number = expect_number(name, value)
    if number < 0:
        raise ValueError(f"Expected `{name}` to be finite and not negative. Received {value!r}.")
    return number


def expect_positive(name: str, value: Any) -> float:
    """Checks that a number is finite and more than 0; returns it as a float."""
    number = expect_number(name, value)
    if number <= 0:
        raise ValueError(f"Expected `{name}` to be more than 0. Received {value!r}.")
    return number


def expect_fraction(name: str, value: Any) -> float:
    """Checks that a number is from 0 to 1; returns it as a float."""
    number = expect_number(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"Expected `{name}` to be a fraction from 0 to 1. Received {value!r}.")
    return number


def expect_integer(name: str, value: Any, least: Optional[int] = None) -> int:
    """Checks that an option is a whole number of 32 bits, and not less than another; returns it as an int."""
    bound = "" if least is None else f" of at least {least}"
    is_whole = isinstance(value, (numbers.Integral, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not is_whole or (least is not None and value < least) or abs(value) > _LARGEST:
        raise ValueError(f"Expected `{name}` to be a whole number{bound}. Received {_short(value)}.")
    return int(value)


def expect_positive_integer(name: str, value: Any) -> int:
    """Checks that a count is a whole number of at least 1; returns it as an int."""
    return expect_integer(name, value, least=1)


def expect_seed(value: Any) -> int:
    """Checks that a seed is a whole number of 32 bits; returns it as an int."""
    seed = expect_integer("seed", value)
    if not -(2**31) <= seed < 2**31:
        raise ValueError(f"Expected `seed` to be a whole number of 32 bits. Received {_short(value)}.")
    return seed


def as_seed_pair(seed: Seed) -> tf.Tensor:
    """Converts the seed of a call, two whole numbers, to a tensor."""
    given: Any = seed if tf.is_tensor(seed) else np.asarray(seed)
    if not (tf.as_dtype(given.dtype).is_integer and given.shape == (2,)):
        raise ValueError(f"Expected `seed` to be two whole numbers. Received {_short(seed)}.")
    return tf.convert_to_tensor(given)


def expect_boolean(name: str, value: Any) -> bool:
    """Checks that an option is `True` or `False`."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"Expected `{name}` to be True or False. Received {_short(value)}.")
    return bool(value)


def expect_value_range(value_range: ValueRange) -> ValueRange:
    """Checks the least and the greatest value of an image; returns them as two floats."""
    message = "Expected `value_range` to be (least, greatest), two finite numbers."
    try:
        low, high = (expect_number("value_range", bound) for bound in value_range)
    except (TypeError, ValueError):
        raise ValueError(f"{message} Received {_short(value_range)}.") from None
    if not low < high or not math.isfinite(high - low):
        raise ValueError(f"{message} Received {value_range!r}.")
    return low, high


def expect_jit_compile(value: JitCompile) -> JitCompile:
    """Checks that `jit_compile` is `True`, `False` or `"auto"`."""
    if not (isinstance(value, bool) or value == "auto"):
        raise ValueError(f"Expected `jit_compile` to be True, False or 'auto'. Received {_short(value)}.")
    return value


def expect_instance(name: str, value: Any, cls: type[_Value]) -> _Value:
    """Checks that an option is an object of a class; returns it."""
    if not isinstance(value, cls):
        kind = "keras.Model" if cls is keras.Model else cls.__name__
        article = "an" if kind[0] in "AEIOU" else "a"
        raise TypeError(f"Expected `{name}` to be {article} {kind}. Received {_short(value)}.")
    return value


def _short(value):
    """What was received, in a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _has_no_value_yet(value):
    return tf.is_tensor(value) and not hasattr(value, "numpy")

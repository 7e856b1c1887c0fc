"""Early, clear errors for tensors of the wrong rank, shape or dtype."""

import tensorflow as tf


def as_images(images, name="images"):
    """Converts to a float32 or float64 `[batch, height, width, channels]` tensor of at least 2x2 pixels.

    Integers and half precision become float32, with the values they have: gradients are taken with
    respect to what is warped, and a model casts to its own compute dtype itself.

    Raises:
      ValueError: if the rank is not 4, or the height or width is less than 2.
      TypeError: if the images are neither integers nor floating-point numbers.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype.is_integer or images.dtype in (tf.float16, tf.bfloat16):
        images = tf.cast(images, tf.float32)
    expect_images(images, name)
    return images


def expect_images(images, name="images"):
    """Checks that `images` is a floating `[batch, height, width, channels]` of at least 2x2 pixels."""
    if not images.dtype.is_floating:
        raise TypeError(f"Expected `{name}` to be floating-point numbers. Received dtype {images.dtype.name}.")
    if images.shape.rank is not None and images.shape.rank != 4:
        raise ValueError(
            f"Expected `{name}` to have the shape [batch, height, width, channels]. Received shape {images.shape}."
        )
    if images.shape.rank is None:
        return
    for axis, size in (("height", images.shape[1]), ("width", images.shape[2])):
        if size is not None and size < 2:
            raise ValueError(
                f"Expected `{name}` to have a {axis} of at least 2 pixels, since a derivative needs two. "
                f"Received shape {images.shape}."
            )


def expect_flow(flow, images):
    """Checks that `flow` is a floating `[batch, height, width, 2]` that fits `images`."""
    if not flow.dtype.is_floating:
        raise TypeError(f"Expected `flow` to be floating-point numbers. Received dtype {flow.dtype.name}.")
    expected = tf.TensorShape([None, None, None, 2])
    if images.shape.rank is not None:
        expected = images.shape[:3].concatenate(2)
    if not flow.shape.is_compatible_with(expected):
        raise ValueError(
            "Expected `flow` to have the shape [batch, height, width, 2] of its images, "
            f"{expected}. Received shape {flow.shape}."
        )


def expect_finite(images):
    """Returns `images`, with a run-time check that no value is NaN or infinite.

    XLA drops the check: a compiled step cannot stop in the middle.
    """
    return tf.debugging.check_numerics(images, "Expected finite images. Received NaN or infinity in a batch of images:")


def expect_one_of(name, value, allowed):
    """Checks that an option has one of its named values."""
    if value not in allowed:
        raise ValueError(f"Expected `{name}` to be one of {', '.join(map(repr, allowed))}. Received {value!r}.")
    return value


def expect_not_negative(name, value):
    """Checks that a number is finite and at least 0; returns it as a float."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"Expected `{name}` to be a number. Received {value!r}.") from None
    if not 0 <= number < float("inf"):
        raise ValueError(f"Expected `{name}` to be finite and not negative. Received {value!r}.")
    return number


def expect_positive(name, value):
    """Checks that a number is finite and more than 0; returns it as a float."""
    number = expect_not_negative(name, value)
    if number == 0:
        raise ValueError(f"Expected `{name}` to be more than 0. Received {value!r}.")
    return number


def expect_positive_integer(name, value):
    """Checks that a count is a whole number of at least 1; returns it as an int."""
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(f"Expected `{name}` to be a whole number of at least 1. Received {value!r}.")
    return int(value)

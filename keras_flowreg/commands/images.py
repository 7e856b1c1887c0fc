"""A picture from a file, as an image for a model."""

from typing import Optional

import numpy as np


def read(path: str, image_shape: tuple[Optional[int], Optional[int], Optional[int]]) -> np.ndarray:
    """Reads a still picture.

    Grey, colour, CMYK and 16-bit pictures become what the model takes: its number of channels. What is transparent lies on
    white.

    Args:
      path: of a PNG, JPEG, BMP or other file that Pillow reads.
      image_shape: `(height, width, channels)` that the model takes, with `None` for any; one channel or three.

    Returns:
      A float32 array `[height, width, channels]` in [0, 1].

    Raises:
      ValueError: if it is no still picture of that size.
    """
    # Imported here, so that only a picture needs it.
    import PIL.Image

    height, width, channels = image_shape
    if channels not in (1, 3, None):
        raise ValueError(
            f"Expected a model of grey or colour images, for a picture. Received one of {channels} channels."
        )
    try:
        with PIL.Image.open(path) as picture:
            frames = getattr(picture, "n_frames", 1)
            picture.load()
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"Expected {path} to be a picture. Received {error}.") from error
    if frames != 1:
        raise ValueError(f"Expected {path} to be a still picture. Received one of {frames} frames.")
    size = picture.height, picture.width
    if any(known not in (None, given) for known, given in zip((height, width), size)):
        raise ValueError(f"Expected {path} to have {height} x {width} pixels, as the model takes. Received {size}.")
    values = _grey_values(picture) if picture.mode.startswith(("I", "F")) else _color_values(picture)
    if channels == 1 and values.shape[-1] == 3:
        return (values @ np.array([[0.299], [0.587], [0.114]])).astype("float32")  # ITU-R 601, as Pillow
    return np.repeat(values, (channels or values.shape[-1]) // values.shape[-1], axis=-1).astype("float32")


def _grey_values(picture):
    """`[height, width, 1]` in [0, 1], of a picture of 16 bits."""
    values = np.asarray(picture, "float64")[..., np.newaxis] / (2**16 - 1)
    if picture.mode.startswith("F") or values.min() < 0 or values.max() > 1:
        raise ValueError(f"Expected a picture of 8 or 16 bits. Received values of mode {picture.mode}.")
    return values


def _color_values(picture):
    """`[height, width, channels]` in [0, 1], of a picture of 8 bits: one channel if it is grey."""
    import PIL.Image

    is_grey = picture.mode in ("1", "L", "LA", "La")
    if "transparency" in picture.info or "A" in picture.mode or picture.mode == "P":
        layer = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, "white")
        picture = PIL.Image.alpha_composite(white, layer)
    values = np.asarray(picture.convert("L" if is_grey else "RGB"), "float64") / 255
    return values[..., np.newaxis] if is_grey else values

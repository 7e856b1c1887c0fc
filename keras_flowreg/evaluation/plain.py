"""Plain values: what JSON can hold, and nothing else."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any, name: str = "value") -> Any:
    """A copy of a value, made of strings, numbers, bools, `None`, lists and dictionaries alone.

    JSON has no NaN and no infinity: they become `None`.

    Args:
      value: plain values, NumPy arrays and numbers, tuples, or dictionaries of them by strings.
      name: what an error calls it.

    Returns:
      The value as `json.loads(json.dumps(value))` would give it.

    Raises:
      TypeError: if there is anything else in it.

    ```python
    from keras_flowreg.evaluation.plain import plain

    print(plain({"radii": (0.1, np.float32(0.5)), "loss": np.nan}))  # {'radii': [0.1, 0.5], 'loss': None}
    ```
    """
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {_key(key, name): plain(entry, name) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry, name) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise TypeError(f"Expected `{name}` to be made of numbers, strings, lists and dictionaries. Received {value!r}.")


def _key(key, name):
    if not isinstance(key, str):
        raise TypeError(f"Expected the keys of `{name}` to be strings. Received {key!r}.")
    return key

"""Reads the images that exporting.py wrote."""

import pathlib

import numpy as np
from absl import app


def load(folder):
    """All images and labels of a folder."""
    paths = sorted(pathlib.Path(folder).glob("part*.npz"), key=lambda path: int(path.stem[4:]))
    if not paths:
        raise app.UsageError(f"Expected a folder with part0.npz. Received {folder}, which has none.")
    parts = [np.load(path) for path in paths]
    return tuple(np.concatenate([part[name] for part in parts]) for name in ("images", "labels"))

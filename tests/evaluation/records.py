"""Records that are made up, for tests."""

import numpy as np

from keras_flowreg.evaluation.record import AttackRecord


def record(success=(True, False), **changes):
    """A record of which every number is known."""
    size = len(success)
    arrays = {
        "success": np.array(success),
        "clean_success": np.zeros(size, bool),
        "loss": np.arange(size) + 0.5,
        "queries": np.arange(size) + 7,
        "median": np.full(size, 0.1),
        "largest": np.full(size, 0.4),
        "roughness": np.full(size, 0.2),
    }
    return AttackRecord(**{**arrays, "seconds": 1.5, **changes})

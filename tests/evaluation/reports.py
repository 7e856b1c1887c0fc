"""What tests of reports share."""

import copy

import numpy as np


def assert_same(first, second):
    """Checks that two reports are equal, but for seconds, and for the order of sums on several threads."""
    for run, measures in first.measures.items():
        for name in set(measures) - {"seconds"}:
            np.testing.assert_allclose(measures[name], second.measures[run][name], rtol=1e-4, err_msg=f"{run} {name}")
    first = copy.copy(first)
    first.measures = {run: second.measures[run] for run in first.measures}
    assert first == second, f"{first} is not {second}"

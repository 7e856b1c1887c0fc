"""pytest --share=1/2 runs one half of the cases, and --share=2/2 the other: for scripts/test all, on two stacks.

Every test has a case in either half if it has two, and runs in both if it has one. But what takes long, and hardly knows
its Keras, is dealt out: each test there is in one half.
"""

import inspect
import itertools

import pytest

# Scripts and pages, and what asks no more of a model than its predictions.
DEALT_OUT = (
    *(f"tests/{folder}/" for folder in ("attacks", "certification", "evaluation", "examples")),
    "tests/pages_test.py",
    "tests/docstrings_test.py",
)
SKIPPED_ON_ONE = "tests/examples/train_distributed_test.py"  # of the stacks: its tests run, or are skipped, on both


def pytest_addoption(parser):
    parser.addoption("--share", type=share, help="such as 1/2: the first half of the cases of each test")


def share(text):
    """`(number, count)` of "number/count"."""
    try:
        number, count = map(int, text.split("/"))
    except ValueError as error:
        raise pytest.UsageError(f"Expected `--share` to be such as 1/2. Received {text}.") from error
    if not 1 <= number <= count:
        raise pytest.UsageError(f"Expected `--share` to be from 1/{count} to {count}/{count}. Received {text}.")
    return number, count


def pytest_collection_modifyitems(config, items):
    if config.option.share:
        chosen = shared(items, *config.option.share)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def shared(items, number, count):
    """The items of one share. Tests take turns in who gets the odd case: the same turns on either stack."""
    chosen = set()
    for turn, (_, cases) in enumerate(itertools.groupby(sorted(items, key=test_of), key=test_of)):
        # The second before the tenth, so that either stack has them in the same places.
        cases = sorted(cases, key=lambda item: (len(item.nodeid), item.nodeid))
        alone = len(cases) == 1 and not is_dealt_out(cases[0])
        chosen.update(cases if alone else cases[(number - 1 + turn) % count :: count])
    return [item for item in items if item in chosen]


def test_of(item):
    """What the cases of one test have in common."""
    function = inspect.unwrap(item.function)
    return item.nodeid.split("::")[0], getattr(item.cls, "__qualname__", ""), function.__qualname__


def is_dealt_out(item):
    return item.nodeid.startswith(DEALT_OUT) and not item.nodeid.startswith(SKIPPED_ON_ONE)

"""Tests of how cases are shared out between two runs."""

import dataclasses
import types

import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import conftest


@dataclasses.dataclass(frozen=True)
class Item:
    """What pytest knows of a case."""

    nodeid: str
    cls: type
    function: types.FunctionType


class Cases(parameterized.TestCase):
    """What is shared out."""

    __test__ = False

    @parameterized.parameters(range(3))
    def test_of_three_cases(self, case):
        pass

    @parameterized.parameters(range(2))
    def test_of_two_cases(self, case):
        pass

    def test_of_one_case(self):
        pass


def items(path="tests/some_test.py"):
    names = [name for name in dir(Cases) if name.startswith("test_of")]
    return [Item(f"{path}::Cases::{name}", Cases, getattr(Cases, name)) for name in names]


def names(chosen):
    return [item.nodeid.split("::")[-1] for item in chosen]


class SharesTest(parameterized.TestCase, tf.test.TestCase):
    def test_each_case_is_in_one_half_and_each_test_in_both(self):
        all_items = items()
        halves = [set(names(conftest.shared(all_items, number, 2))) for number in (1, 2)]
        self.assertEqual(halves[0] | halves[1], set(names(all_items)))
        self.assertEqual(halves[0] & halves[1], {"test_of_one_case"})
        for half in halves:
            self.assertEqual(
                {name.rstrip("012") for name in half},
                {f"test_of_{n}" for n in ("one_case", "two_cases", "three_cases")},
            )
        self.assertEqual(sorted(map(len, halves)), [3, 4])

    @parameterized.parameters("tests/examples/some_test.py", "tests/attacks/some_test.py")
    def test_what_is_dealt_out_is_in_one_half(self, path):
        all_items = items(path)
        halves = [names(conftest.shared(all_items, number, 2)) for number in (1, 2)]
        self.assertCountEqual(halves[0] + halves[1], names(all_items))
        self.assertLen(halves[0], 3)

    def test_one_share_is_all(self):
        all_items = items()
        self.assertEqual(conftest.shared(all_items, 1, 1), all_items)

    @parameterized.parameters("2", "0/2", "3/2", "a/b")
    def test_bad_shares(self, text):
        with self.assertRaisesRegex(pytest.UsageError, f"Received {text}"):
            conftest.share(text)


if __name__ == "__main__":
    tf.test.main()

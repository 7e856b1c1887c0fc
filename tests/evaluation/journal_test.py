"""Tests of the file that an evaluation goes on from."""

import os
from unittest import mock

import numpy as np
import tensorflow as tf

from keras_flowreg.evaluation.journal import Journal, digest
from keras_flowreg.evaluation.results import Run

SETTINGS = {"seed": 0, "radii": (0.1, 0.2)}
RUN, RECORD = Run("FlowPGD", 0.1), {"success": [True, False], "seconds": 1.5}


class JournalTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.get_temp_dir(), "partial.jsonl")

    def test_finds_what_was_added(self):
        journal = Journal(self.path, SETTINGS)
        self.assertIsNone(journal.find(RUN, 0, "data"))
        journal.add(RUN, 0, "data", RECORD)
        journal.close()
        again = Journal(self.path, SETTINGS)
        self.assertEqual(again.find(RUN, 0, "data"), RECORD)
        self.assertIsNone(again.find(RUN, 1, "data"))
        self.assertIsNone(again.find(Run("FlowPGD", None), 0, "data"))

    def test_without_a_file(self):
        journal = Journal(None, SETTINGS)
        journal.add(RUN, 0, "data", RECORD)
        self.assertIsNone(journal.find(RUN, 0, "data"))

    def test_a_line_that_was_cut_off_is_dropped(self):
        Journal(self.path, SETTINGS).add(RUN, 0, "data", RECORD)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write('{"run": ["cut o')
        journal = Journal(self.path, SETTINGS)
        self.assertEqual(journal.find(RUN, 0, "data"), RECORD)
        journal.add(RUN, 1, "data", RECORD)
        journal.close()
        self.assertEqual(Journal(self.path, SETTINGS).find(RUN, 1, "data"), RECORD)

    def test_no_bare_nan(self):
        Journal(self.path, SETTINGS).add(RUN, 0, "data", {"loss": np.array([np.nan, -np.inf])})
        with open(self.path, encoding="utf-8") as file:
            text = file.read()
        self.assertNotIn("NaN", text)
        self.assertNotIn("Infinity", text)
        self.assertEqual(Journal(self.path, SETTINGS).find(RUN, 0, "data"), {"loss": [None, None]})

    def test_bad_input(self):
        Journal(self.path, SETTINGS).add(RUN, 0, "data", RECORD)
        with self.assertRaisesRegex(ValueError, "Expected .*partial.jsonl to hold partial results of this evaluation"):
            Journal(self.path, {**SETTINGS, "seed": 1})
        with self.assertRaisesRegex(
            ValueError, "Expected batch 0 to be the one that .* Received other images or labels"
        ):
            Journal(self.path, SETTINGS).find(RUN, 0, "other")
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("no JSON\n")
        with self.assertRaisesRegex(ValueError, "Expected .*partial.jsonl to hold partial results.* Received another"):
            Journal(self.path, SETTINGS)

    def test_a_damaged_line_is_named(self):
        Journal(self.path, SETTINGS).add(RUN, 0, "data", RECORD)
        with open(self.path, "ab") as file:
            file.write(b"\0\0\0\0\n")
        with self.assertRaisesRegex(ValueError, "Expected .*partial.jsonl to hold .* Received line 3, .*: remove it"):
            Journal(self.path, SETTINGS)

    def test_digest(self):
        # CRC-32 of no bytes is 0.
        self.assertEqual(digest([]), "00000000")
        digests = {digest([array]) for array in (np.zeros(4), np.zeros([2, 2]), np.zeros(4, "int64"), np.ones(4))}
        self.assertLen(digests, 4)
        self.assertEqual(digest([np.zeros(4)]), digest([[0.0] * 4]))

    def test_a_file_that_is_not_ours_is_left_alone(self):
        for content in (b"a line without an end", b"{}\n", b'{"settings": {}}\nrest', b"PK\x03\x04 zip\n\x00", b"\n"):
            with open(self.path, "wb") as file:
                file.write(content)
            with self.assertRaisesRegex(ValueError, "Expected .*partial.jsonl to hold partial results"):
                Journal(self.path, SETTINGS)
            with open(self.path, "rb") as file:
                self.assertEqual(file.read(), content)

    def test_a_first_line_that_was_cut_off(self):
        Journal(self.path, SETTINGS)
        with open(self.path, "rb+") as file:
            file.truncate(20)
        Journal(self.path, SETTINGS).add(RUN, 0, "data", RECORD)
        self.assertEqual(Journal(self.path, SETTINGS).find(RUN, 0, "data"), RECORD)

    def test_a_full_disk_spoils_nothing(self):
        journal = Journal(self.path, SETTINGS)
        with mock.patch.object(os, "fsync", side_effect=OSError("no space left")):
            with self.assertRaisesRegex(OSError, "no space"):
                journal.add(RUN, 0, "data", RECORD)
        journal.add(RUN, 1, "data", RECORD)
        journal.close()
        self.assertIsNone(Journal(self.path, SETTINGS).find(RUN, 0, "data"))
        self.assertEqual(Journal(self.path, SETTINGS).find(RUN, 1, "data"), RECORD)

    def test_two_at_once(self):
        journal = Journal(self.path, SETTINGS)
        with self.assertRaisesRegex(ValueError, "Expected .*partial.jsonl to be written by one process"):
            Journal(self.path, SETTINGS)
        journal.close()
        Journal(self.path, SETTINGS)


if __name__ == "__main__":
    tf.test.main()

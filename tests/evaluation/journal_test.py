"""Tests of the file that an evaluation goes on from."""

import os

import numpy as np
import tensorflow as tf

from keras_flowreg.evaluation.journal import Journal, digest
from keras_flowreg.evaluation.results import Run
from tests.evaluation.records import record

SETTINGS = {"seed": 0, "radii": (0.1, 0.2)}
RUN = Run("FlowPGD", 0.1)


class JournalTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.get_temp_dir(), "partial.jsonl")

    def test_finds_what_was_added(self):
        journal = Journal(self.path, SETTINGS)
        self.assertIsNone(journal.find(RUN, 0, "data"))
        journal.add(RUN, 0, "data", record())
        again = Journal(self.path, SETTINGS)
        self.assertEqual(again.find(RUN, 0, "data"), record())
        self.assertIsNone(again.find(RUN, 1, "data"))
        self.assertIsNone(again.find(Run("FlowPGD", None), 0, "data"))

    def test_without_a_file(self):
        journal = Journal(None, SETTINGS)
        journal.add(RUN, 0, "data", record())
        self.assertIsNone(journal.find(RUN, 0, "data"))

    def test_a_line_that_was_cut_off_is_dropped(self):
        Journal(self.path, SETTINGS).add(RUN, 0, "data", record())
        with open(self.path, "a", encoding="utf-8") as file:
            file.write('{"run": ["cut o')
        journal = Journal(self.path, SETTINGS)
        self.assertEqual(journal.find(RUN, 0, "data"), record())
        journal.add(RUN, 1, "data", record())
        self.assertEqual(Journal(self.path, SETTINGS).find(RUN, 1, "data"), record())

    def test_no_bare_nan(self):
        Journal(self.path, SETTINGS).add(RUN, 0, "data", record(loss=np.array([np.nan, -np.inf])))
        with open(self.path, encoding="utf-8") as file:
            text = file.read()
        self.assertNotIn("NaN", text)
        self.assertNotIn("Infinity", text)
        self.assertAllEqual(np.isnan(Journal(self.path, SETTINGS).find(RUN, 0, "data").loss), [True, True])

    def test_bad_input(self):
        Journal(self.path, SETTINGS).add(RUN, 0, "data", record())
        with self.assertRaisesRegex(ValueError, "Expected .*partial.jsonl to hold partial results of this evaluation"):
            Journal(self.path, {**SETTINGS, "seed": 1})
        with self.assertRaisesRegex(
            ValueError, "Expected batch 0 to be the one that .* Received other images or labels"
        ):
            Journal(self.path, SETTINGS).find(RUN, 0, "other")
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("no JSON\n")
        with self.assertRaisesRegex(ValueError, "Expected .*partial.jsonl to hold partial results. Received"):
            Journal(self.path, SETTINGS)

    def test_digest(self):
        # CRC-32 of no bytes is 0; that of b"123456789" is its published check value.
        self.assertEqual(digest([]), "00000000")
        self.assertEqual(digest([np.frombuffer(b"1234", "uint8"), np.frombuffer(b"56789", "uint8")]), "cbf43926")


if __name__ == "__main__":
    tf.test.main()

"""Tests that an evaluation in parts gives the report of the whole."""

import contextlib
import functools
import os
from unittest import mock

import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.evaluation import certified, journal, merge_partial_results
from keras_flowreg.evaluation.shards import Shard, expect_shard
from keras_flowreg.evaluation.work import Work
from tests import testing
from tests.evaluation import reports


@functools.cache
def network():
    """One model for all tests: what is compiled for it is compiled once."""
    model = testing.network()
    model.compile("sgd", testing.cross_entropy())
    return model


def evaluated(path=None, shard=None, seed=0, epsilon=0.6, **options):
    data = tf.data.Dataset.from_tensor_slices(testing.data(40)).batch(8)
    attacks = [fr.attacks.FlowPGD(0.1, steps=2, seed=seed), fr.attacks.RandomFlow(0.1, draws=2)]
    options = {"resume_from": path, "shard": shard, "check": False, "verbose": 0, **options}
    return fr.evaluate_robustness(network(), data, attacks, [epsilon], **options)


class ShardsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = self.get_temp_dir()
        self.paths = [os.path.join(folder, f"{part}.jsonl") for part in (1, 2)]
        self.whole = os.path.join(folder, "whole.jsonl")

    def test_one_report_of_two_parts(self):
        parts = [evaluated(path, shard=(number, 2)) for number, path in enumerate(self.paths, 1)]
        self.assertEqual([report.examples for report in parts], [24, 16])
        self.assertEqual([report.settings["shard"] for report in parts], ["1/2", "2/2"])
        expected = evaluated()
        self.assertAllEqual(parts[1].correct, np.concatenate([expected.correct[8:16], expected.correct[24:32]]))
        merge_partial_results(self.paths, self.whole)
        with mock.patch.object(journal.Journal, "add", side_effect=AssertionError("Nothing is left to attack.")):
            reports.assert_same(evaluated(self.whole), expected)

    def test_parts_keep_their_proofs(self):
        options = {"epsilon": 0.002, "certify": True}
        for number, path in enumerate(self.paths, 1):
            evaluated(path, shard=(number, 2), **options)
        merge_partial_results(self.paths, self.whole)
        self.assertLen(journal.read(self.whole), 1 + 3 * 5)
        expected = evaluated(**options)
        self.assertGreater(np.sum(expected.certified[0.002]), 0)
        with mock.patch.object(certified.Certifier, "prove", side_effect=AssertionError("All is proven.")):
            reports.assert_same(evaluated(self.whole, **options), expected)
        with self.assertRaisesRegex(ValueError, "version of this library. Received those of another"):
            evaluated(self.whole, epsilon=0.002)

    def test_what_another_process_writes_to_is_left_alone(self):
        evaluated(self.paths[0], shard=(1, 2))
        settings, *_ = journal.read(self.paths[0])
        with contextlib.closing(journal.Journal(self.whole, settings["settings"])):
            with self.assertRaisesRegex(ValueError, "to be written by one process"):
                merge_partial_results(self.paths[:1], self.whole)
        self.assertEqual(journal.read(self.whole), [settings])

    def test_a_file_whose_first_line_was_cut_off(self):
        evaluated(self.paths[0], shard=(1, 2))
        with open(self.paths[0], "rb+") as file:
            file.truncate(60)
        with self.assertRaisesRegex(ValueError, "to hold partial results of an evaluation"):
            merge_partial_results(self.paths[:1], self.whole)

    def test_what_no_part_did_is_attacked_in_the_end(self):
        evaluated(self.paths[0], shard=(1, 2))
        merge_partial_results(self.paths[:1], self.whole)
        reports.assert_same(evaluated(self.whole), evaluated())
        evaluated(self.paths[1], shard=(2, 2))
        merge_partial_results(self.paths[1:], self.whole)  # What is there is kept.
        self.assertLen(journal.read(self.whole), 1 + 2 * 5)

    def test_bad_input(self):
        for shard in ((0, 2), (3, 2), (1,), "1/2", (1.5, 2), (True, 2)):
            with self.assertRaisesRegex(ValueError, "Expected `shard` to be"):
                expect_shard(shard)
        self.assertEqual(expect_shard(None), Shard(1, 1))
        with self.assertRaisesRegex(ValueError, "at least one batch in each shard. Received none in 9/9"):
            with mock.patch.object(Work, "done"):  # It is told before anything is done.
                evaluated(shard=(9, 9))
        evaluated(self.paths[0], shard=(1, 5))
        evaluated(self.paths[1], shard=(2, 5), seed=1)
        with self.assertRaisesRegex(
            ValueError, "partial results of one evaluation. Received those of another in .*2.json"
        ):
            merge_partial_results(self.paths, self.whole)
        with self.assertRaisesRegex(ValueError, "Expected at least one file"):
            merge_partial_results([], self.whole)
        with open(self.whole, "w") as file:
            file.write("notes")
        with self.assertRaisesRegex(ValueError, "to hold partial results of an evaluation. Received another file"):
            merge_partial_results(self.paths[:1], self.whole)
        with open(self.whole) as file:
            self.assertEqual(file.read(), "notes")


if __name__ == "__main__":
    tf.test.main()

"""Tests that searches compiled by XLA see batches of few sizes, and work only on what is left."""

from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.attacks import auto_deform, chunks, search
from tests import testing


class SearchInChunksTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.object(chunks, "_CHUNK", 4))

    @parameterized.parameters(
        (7, 16, [4, 4]),
        (8, 16, [4, 4]),
        (1, 16, [4]),
        (9, 16, [16]),  # more than half of the batch are left
        (16, 16, [16]),
        (1, 3, [3]),
    )
    def test_sizes_and_order(self, left, whole, sizes):
        seen = []

        def searched(examples):
            self.assertFalse(examples.compact)
            seen.append(examples.images.shape[0])
            value = tf.cast(examples.positions, tf.float32)
            return search.Candidate(value[:, tf.newaxis], value > 5, value, examples.positions)

        batch = search.Examples(
            tf.zeros([whole, 2, 2, 1]),
            tf.zeros([whole], tf.int64),
            tf.zeros([whole]),
            tf.range(whole),
            tf.constant(whole),
            compact=True,
            stop_when_fooled=True,
        )
        positions = np.random.default_rng(0).permutation(whole)[:left]
        found = chunks.search_in_chunks(searched, batch.take(positions))
        self.assertEqual(seen, sizes)
        self.assertAllEqual(found.queries, positions)
        self.assertAllEqual(found.parameters[:, 0], positions)
        self.assertAllEqual(found.success, positions > 5)


class AutoDeformTest(tf.test.TestCase):
    def test_examples_leave_the_batch_and_outcomes_stay(self):
        images, _ = testing.data(12)
        model = testing.network()
        labels = np.argmax(model(images), axis=1)
        members = [
            auto_deform.Member(fr.attacks.FlowFGSM, {}),
            auto_deform.Member(fr.attacks.FlowFrankWolfe, {"steps": 3, "loss": "margin", "targeted": True}),
            auto_deform.Member(fr.attacks.FlowFrankWolfe, {"steps": 2, "start": "random", "restarts": 3}, lead=0.5),
        ]
        sizes = []

        def noted(search, examples):
            sizes.append(examples.images.shape[0])
            return chunks.search_in_chunks(search, examples)

        attack = fr.attacks.AutoDeform(0.05, loss="margin")
        with mock.patch.object(auto_deform, "_MEMBERS", members), mock.patch.object(chunks, "_CHUNK", 4):
            expected = attack.replace(jit_compile=False).run(images, labels, model=model)
            with mock.patch.object(auto_deform, "search_in_chunks", noted):
                found = attack.replace(jit_compile=True).run(images, labels, model=model)
        self.assertAllEqual(found.success, expected.success)
        self.assertAllEqual(found.queries, expected.queries)
        self.assertAllClose(found.loss, expected.loss, atol=1e-4)
        self.assertEqual(sizes[0], 12)
        self.assertLess(sizes[-1], 12)


if __name__ == "__main__":
    tf.test.main()

"""Tests of the record of one attack on one batch."""

import dataclasses
import json

import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.evaluation.record import AttackRecord
from tests import testing
from tests.evaluation.records import record


class AttackRecordTest(tf.test.TestCase):
    def test_of_an_attacks_result(self):
        images, labels = testing.data(6)
        network = testing.network()
        network.compile("sgd", testing.cross_entropy())
        result = fr.attacks.RandomFlow(0.5, draws=2).run(images, labels, model=network)
        made = AttackRecord.from_result(result, 2.0)
        for name in ("success", "clean_success", "loss", "queries"):
            self.assertAllClose(getattr(made, name), getattr(result, name).numpy(), msg=name)
        for name in ("median", "largest", "roughness"):
            self.assertAllClose(getattr(made, name), getattr(result.displacement, name).numpy(), msg=name)
        self.assertEqual((made.seconds, made.examples), (2.0, 6))
        self.assertEqual([made.success.dtype, made.queries.dtype.kind, made.loss.dtype], [bool, "i", np.float64])

    def test_cannot_be_changed(self):
        with self.assertRaises(dataclasses.FrozenInstanceError):
            record().seconds = 3.0

    def test_plain_values(self):
        values = record().to_dict()
        self.assertEqual(values["success"], [True, False])
        self.assertEqual(values["queries"], [7, 8])
        self.assertEqual(values["seconds"], 1.5)
        self.assertEqual(AttackRecord.from_dict(json.loads(json.dumps(values))), record())
        self.assertNotEqual(record(), record([True, True]))

    def test_numbers_that_are_not_finite(self):
        values = record(loss=np.array([np.inf, np.nan])).to_dict()
        self.assertEqual(values["loss"], [None, None])
        self.assertAllEqual(np.isnan(AttackRecord.from_dict(values).loss), [True, True])

    def test_joined(self):
        joined = AttackRecord.joined([record([True, False]), record([False, False, True])])
        self.assertAllEqual(joined.success, [True, False, False, False, True])
        self.assertAllEqual(joined.queries, [7, 8, 7, 8, 9])
        self.assertEqual((joined.seconds, joined.examples), (3.0, 5))

    def test_of_some_examples(self):
        none = AttackRecord.of_no_attack(4)
        self.assertEqual((none.examples, none.seconds), (4, 0.0))
        self.assertFalse(np.any(none.attacked | none.success | none.clean_success))
        self.assertTrue(np.all(np.isnan([none.loss, none.median, none.largest, none.roughness])))
        some = none.with_rows(np.array([3, 1]), record([True, False, True]))
        self.assertAllEqual(some.attacked, [False, True, False, True])
        self.assertAllEqual(some.success, [False, False, False, True])
        self.assertAllEqual(some.queries, [0, 8, 0, 7])
        self.assertAllClose(some.loss, [np.nan, 1.5, np.nan, 0.5])
        self.assertEqual(some.seconds, 1.5)
        self.assertEqual(AttackRecord.from_dict(json.loads(json.dumps(some.to_dict()))), some)
        self.assertEqual(none, AttackRecord.of_no_attack(4))

    def test_bad_input(self):
        with self.assertRaisesRegex(ValueError, r"Expected arrays of the same shape \[batch\].*'loss': \(3,\)"):
            record(loss=np.zeros(3))
        with self.assertRaisesRegex(ValueError, r"Expected arrays of the same shape \[batch\]"):
            record([[True], [False]])
        values = record().to_dict()
        with self.assertRaisesRegex(ValueError, "Expected a record of .*'loss'.* Received"):
            AttackRecord.from_dict({name: value for name, value in values.items() if name != "loss"})
        with self.assertRaisesRegex(ValueError, "Expected a record of .* Received .*'losses'"):
            AttackRecord.from_dict({**values, "losses": []})


if __name__ == "__main__":
    tf.test.main()

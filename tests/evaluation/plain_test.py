"""Tests of plain values: they are what JSON text would give back."""

import json

import numpy as np
import tensorflow as tf

from keras_flowreg.evaluation.plain import plain


class PlainTest(tf.test.TestCase):
    def test_as_json_would(self):
        value = {"a": [1, 2.5, True, None, "text"], "b": (1, (2,)), "c": {"d": []}}
        self.assertEqual(plain(value), json.loads(json.dumps(value)))

    def test_numpy(self):
        value = plain({"array": np.array([[1, 2]]), "number": np.float32(0.5), "bools": np.array([True, False])})
        self.assertEqual(value, {"array": [[1, 2]], "number": 0.5, "bools": [True, False]})
        self.assertEqual(json.loads(json.dumps(value)), value)

    def test_numbers_that_are_not_finite(self):
        self.assertEqual(plain([np.nan, float("inf"), np.array([-np.inf, 1])]), [None, None, [None, 1.0]])

    def test_is_a_copy(self):
        value = {"list": [1]}
        plain(value)["list"].append(2)
        self.assertEqual(value, {"list": [1]})

    def test_bad_input(self):
        with self.assertRaisesRegex(TypeError, "Expected `recipe` to be made of numbers, strings.* Received {1}"):
            plain({"set": [{1}]}, "recipe")
        with self.assertRaisesRegex(TypeError, "Expected the keys of `recipe` to be strings. Received 1"):
            plain({1: 2}, "recipe")


if __name__ == "__main__":
    tf.test.main()

"""Tests of the benchmark of AutoDeform, in a short form."""

import os

import keras
import numpy as np
import tensorflow as tf

from benchmarks import auto_deform
from keras_flowreg.commands import architectures
from tests import command_line


class AutoDeformTest(tf.test.TestCase):
    def test_prints_what_is_left_after_each_search(self):
        keras.utils.set_random_seed(0)
        path = os.path.join(self.get_temp_dir(), "untrained.keras")
        architectures.build("strided_cnn", (28, 28, 1), 10, width=0.1).save(path)
        code, output, errors = command_line.run(
            "benchmarks/auto_deform.py",
            f"--model={path}",
            "--epsilons=0.1",
            "--examples=24",
            *("--steps=1", "--restarts=1", "--targeted_steps=1", "--targeted_restarts=1"),
            *("--sweeps=1", "--swept_restarts=1"),
        )
        self.assertEqual(code, 0, errors)
        *_, row = output.splitlines()
        cells = row.strip("| ").split(" | ")
        self.assertEqual(cells[:2], ["untrained", "0.1"])
        certified, left, *after = map(float, cells[2:7])
        self.assertEqual(sorted([left, *after], reverse=True), [left, *after])
        self.assertLessEqual(certified, after[-1])
        self.assertAllClose(float(cells[7]), 100 * (left - after[-1]), atol=0.06)

    def test_logit_ratio(self):
        logits = tf.constant([[4.0, 1.0, 0.0, -9.0], [4.0, 1.0, 0.0, -9.0]])
        self.assertAllClose(auto_deform.logit_ratio(np.array([0, 1]), logits), [-3 / 4, 3 / 4])


if __name__ == "__main__":
    tf.test.main()

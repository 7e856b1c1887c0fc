"""Tests that a wrong installation is told at the import, in one sentence."""

import os
import subprocess
import sys

import tensorflow as tf

from keras_flowreg import compat


def import_error(*lines, **environment):
    """The last line that a new Python prints when it runs these lines, and then imports the package."""
    program = "\n".join([*lines, "import keras_flowreg"])
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    return ended.stderr.strip().splitlines()[-1]


class InstallationTest(tf.test.TestCase):
    def test_there_is_no_tensorflow(self):
        for package in ("tensorflow", "keras"):
            message = import_error("import sys", f"sys.modules[{package!r}] = None")
            self.assertStartsWith(message, "ImportError: Expected TensorFlow and Keras. Received none.")
            self.assertIn("pip install 'keras_flowreg[keras3]'", message)

    def test_another_backend(self):
        if not compat.KERAS_3:
            self.skipTest("Keras 2 runs on TensorFlow alone.")
        message = import_error(KERAS_BACKEND="numpy")
        self.assertStartsWith(message, "ImportError: Expected Keras to run on the TensorFlow backend")
        self.assertEndsWith(message, "Received backend 'numpy'.")


if __name__ == "__main__":
    tf.test.main()

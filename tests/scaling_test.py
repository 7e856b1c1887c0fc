"""Tests of what docs/scaling.md says of one machine."""

from tests import virtual_devices  # (first: it divides the CPU before TensorFlow starts)

import pathlib  # isort: skip
import re
from unittest import mock

import keras
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from tests import testing

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def mirrored():
    return virtual_devices.two_replicas()


def build():
    model = fr.FlowRegularizedModel(testing.network(), fr.FlowGradientRegularizer(2.0))
    model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
    return model


class ScalingTest(tf.test.TestCase, parameterized.TestCase):
    def test_python_example(self):
        images, labels = testing.data(70)
        names = {"keras": keras, "tf": tf, "fr": fr, "images": images, "labels": labels}
        names["build_classifier"] = testing.network
        (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
        strategy = mirrored()
        with mock.patch.object(tf.distribute, "MirroredStrategy", return_value=strategy):
            exec(example, names)
        self.assertEqual(names["model"].optimizer.iterations.numpy(), 1)

    def test_scripts_exist(self):
        for path in re.findall(r"python (examples/\w+\.py)", TEXT):
            self.assertTrue((ROOT / path).exists(), path)

    @parameterized.parameters((4, True), (3, False))
    def test_shares_must_be_equal(self, last_batch, equal):
        dataset = tf.data.Dataset.from_tensor_slices(testing.data(16 + last_batch)).batch(16)
        alone = build()
        with mirrored().scope():
            shared = build()
        for model in (alone, shared):
            model.fit(dataset, verbose=0)
        differences = [abs(ours - theirs).max() for ours, theirs in zip(shared.get_weights(), alone.get_weights())]
        self.assertEqual(max(differences) < 1e-5, equal)

    def test_no_xla_under_a_strategy(self):
        with mock.patch.object(tf.config, "list_physical_devices", return_value=["GPU:0"]):
            self.assertTrue(compat.jit_compile_on_this_machine())
            with mirrored().scope():
                self.assertFalse(compat.jit_compile_on_this_machine())


if __name__ == "__main__":
    tf.test.main()

"""Tests that AutoDeform is the worst case over its members."""

import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from tests import testing


class AutoDeformTest(tf.test.TestCase):
    def test_no_member_breaks_what_it_does_not(self):
        images, _ = testing.data(24)
        model = testing.network()
        labels = np.argmax(model(images), axis=1)
        whole = fr.attacks.AutoDeform(model, 0.3, loss="margin").run(images, labels)
        for kind in (fr.attacks.RandomFlow, fr.attacks.FlowFGSM, fr.attacks.FlowPGD, fr.attacks.FlowFrankWolfe):
            member = kind(model, 0.3, loss="margin").run(images, labels)
            self.assertFalse(np.any(member.success.numpy() & ~whole.success.numpy()), kind)


if __name__ == "__main__":
    tf.test.main()

"""Tests that AutoDeform is the worst case over its members."""

import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from tests import testing


class AutoDeformTest(tf.test.TestCase):
    def test_no_member_fools_what_it_does_not(self):
        images, _ = testing.data(24)
        model = testing.network()
        labels = np.argmax(model(images), axis=1)
        whole = fr.attacks.AutoDeform(0.3, loss="margin").run(images, labels, model=model)
        for attack in (fr.attacks.RandomFlow, fr.attacks.FlowFGSM, fr.attacks.FlowPGD, fr.attacks.FlowFrankWolfe):
            member = attack(0.3, loss="margin").run(images, labels, model=model)
            self.assertFalse(np.any(member.success.numpy() & ~whole.success.numpy()), attack)


if __name__ == "__main__":
    tf.test.main()

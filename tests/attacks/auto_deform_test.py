"""Tests that AutoDeform is the worst case over its members."""

from unittest import mock

import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.attacks import auto_deform
from keras_flowreg.ops.labels import other_class
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

    def test_each_other_class_is_sought(self):
        images, _ = testing.data(24)
        model = testing.network()
        predictions = tf.constant(model(images))
        labels = tf.argmax(predictions, axis=1)
        whole = fr.attacks.AutoDeform(0.3, loss="margin").run(images, labels, model=model)
        found = np.zeros(24, bool)
        for rank in range(testing.CLASSES - 1):
            target = other_class(labels, predictions, rank)
            attack = fr.attacks.FlowFrankWolfe(0.3, steps=30, loss="margin", targeted=True)
            moved = attack(images, target, model=model)
            found |= np.argmax(model(moved), axis=1) != labels.numpy()
        self.assertTrue(found.any())
        self.assertFalse(np.any(found & ~whole.success.numpy()))

    def test_many_starts_are_for_examples_that_have_hardly_a_lead_left(self):
        images, _ = testing.data(8)
        model = testing.network()
        labels = np.argmax(model(images), axis=1)
        attack = fr.attacks.AutoDeform(1e-3, loss="margin")

        def queries(members):
            with mock.patch.object(auto_deform, "_MEMBERS", members):
                return attack.run(images, labels, model=model).queries.numpy()

        members, starting = auto_deform._MEMBERS, [member for member in auto_deform._MEMBERS if member.lead < 1]
        cheap = queries([member for member in members if member.lead == 1])
        self.assertAllEqual(queries(members), cheap + 2 * len(starting))
        everybody = queries([member._replace(lead=1.0) for member in members])
        runs = sum(member.options["restarts"] * member.options["steps"] for member in starting)
        self.assertAllGreater(everybody - cheap, runs)


if __name__ == "__main__":
    tf.test.main()

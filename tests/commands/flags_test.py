"""Tests of the flags that say which attack."""

import tensorflow as tf
from absl import flags
from absl.testing import flagsaver, parameterized

import keras_flowreg as fr
from keras_flowreg.commands.flags import (
    attack_names,
    build_attack,
    build_attacks,
    define_attack_flags,
    define_dataset_flags,
)

define_dataset_flags()
define_attack_flags(["FlowFrankWolfe"])
if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


class BuildAttackTest(tf.test.TestCase, parameterized.TestCase):
    def test_names(self):
        self.assertContainsSubset(["ADef", "AutoDeform", "FlowPGD", "IntensityPGD", "StAdv"], attack_names())
        # The first is what all are, and the second needs a perturbation.
        self.assertNoCommonElements(["Attack", "PGD", "AttackResult"], attack_names())

    @parameterized.parameters(*attack_names())
    @flagsaver.flagsaver(steps=7, restarts=2, seed=5)
    def test_an_attack_has_those_flags_that_it_takes(self, name):
        attack = build_attack(name, 0.3)
        self.assertIsInstance(attack, getattr(fr.attacks, name))
        flagged = {"epsilon": 0.3, "steps": 7, "restarts": 2, "start": "random", "norm": "linf", "seed": 5}
        for option, value in attack.options().items():
            self.assertEqual(value, flagged.get(option, value), option)

    @parameterized.parameters("StAdv", "ADef", "FlowPGD")
    def test_without_flags_the_steps_are_the_attacks_own(self, name):
        options = {"epsilon": 0.3} if name == "FlowPGD" else {}
        self.assertEqual(build_attack(name, 0.3).steps, getattr(fr.attacks, name)(**options).steps)

    @flagsaver.flagsaver(norm="pixel_l2")
    def test_the_norm(self):
        self.assertEqual(build_attack("FlowPGD", 0.3).norm, "pixel_l2")
        with self.assertRaisesRegex(ValueError, "IntensityPGD: Expected `norm`.*Received 'pixel_l2'"):
            build_attack("IntensityPGD", 0.3)

    @flagsaver.flagsaver(attacks=["FlowPGD", "RandomFlow"], epsilons=["0.2", "0.5"])
    def test_the_attacks_of_the_flags(self):
        self.assertEqual(build_attacks(), [fr.attacks.FlowPGD(0.5), fr.attacks.RandomFlow(0.5)])


if __name__ == "__main__":
    tf.test.main()

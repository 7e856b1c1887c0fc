"""Tests of the named training methods."""

import dataclasses

import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.commands import datasets, recipes
from tests import testing


class RecipesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(method=recipes.METHODS, dataset=datasets.NAMES)
    def test_every_method_has_a_recipe_for_every_data_set(self, method, dataset):
        recipe = recipes.get(method, dataset)
        model = recipe.build(testing.network(), seed=3)
        regularizers = {
            "flow_gradient": fr.FlowGradientRegularizer,
            "input_gradient": fr.InputGradientRegularizer,
            "flow_consistency": fr.FlowConsistencyRegularizer,
            "certified_training": fr.IntervalBoundRegularizer,
            None: type(None),
        }
        attacks = {
            "deformation_training": fr.attacks.FlowPGD,
            "intensity_training": fr.attacks.IntensityPGD,
            None: type(None),
        }
        self.assertIsInstance(model.regularizer, regularizers[recipe.regularizer_name])
        self.assertIsInstance(model.attack, attacks[recipe.attack_name])
        named = [name for name in (recipe.regularizer_name, recipe.attack_name) if name]
        self.assertEqual("+".join(named) or "plain", method)
        if model.regularizer is not None:
            self.assertGreater(model.regularizer.weight, 0)
        if model.attack is not None:
            self.assertGreater(model.attack.epsilon, 0)
            self.assertEqual(model.attack.seed, 3)

    def test_the_attack_of_deformation_training(self):
        for name, kind in recipes.DEFORMATIONS.items():
            recipe = dataclasses.replace(recipes.get("deformation_training", "digits"), deformation=name, steps=2)
            attack = recipe.build(testing.network(), seed=3).attack
            self.assertIsInstance(attack, kind)
            self.assertEqual((attack.epsilon, attack.steps, attack.seed), (0.4, 2, 3))

    def test_the_radius_of_flow_consistency(self):
        recipe = dataclasses.replace(recipes.get("flow_consistency", "fashion_mnist"), weight=2.0)
        expected = fr.FlowConsistencyRegularizer(0.2, 2.0)
        self.assertEqual(recipe.build(testing.network(), seed=3).regularizer.get_config(), expected.get_config())

    def test_the_bound_of_certified_training(self):
        recipe = recipes.get("certified_training", "mnist")
        changed = dataclasses.replace(recipe, crown_ibp=1.0, warmup_weight=0.5, box_part=0.8)
        expected = fr.IntervalBoundRegularizer(0.4, 0.5, crown_ibp=(1, 0), warmup_weight=0.5, box_part=0.8)
        self.assertEqual(changed.build(testing.network(), seed=3).regularizer.get_config(), expected.get_config())

    def test_what_cannot_train_is_an_error_at_once(self):
        recipe = recipes.get("certified_training", "digits")
        for changes, message in (
            ({"box_part": 0.0}, "box_part.*0"),
            ({"weight": float("nan")}, "weight.*nan"),
            ({"clean_fraction": 1.0}, "less than 1. Received 1.0"),
            ({"label_smoothing": 0.1}, "`label_smoothing` to be 0 for certified_training. Received 0.1"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                dataclasses.replace(recipe, **changes)
        with self.assertRaisesRegex(ValueError, "steps"):
            dataclasses.replace(recipes.get("intensity_training", "digits"), steps=0)

    def test_unknown_method(self):
        with self.assertRaisesRegex(ValueError, "Expected `method`.*Received: method='magic'"):
            recipes.get("magic", "digits")


if __name__ == "__main__":
    tf.test.main()

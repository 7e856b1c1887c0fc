"""Tests of a study: a cell that is killed and started again, and the grid."""

import dataclasses
import json
import os
import pathlib
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from flowreg_examples import presets, study

COMMITTED = pathlib.Path(__file__).resolve().parents[3] / "docs" / "reproduction"


def few_attacks(setting):
    attacks = {"FlowFrankWolfe": fr.attacks.FlowFrankWolfe(setting.epsilon, steps=2)}
    return attacks, dict.fromkeys(attacks, setting.epsilons)


def little_cell(method="flow_gradient", epochs=3, **overrides):
    (setting,) = presets.PRESETS["smoke"].variants
    schedule = dataclasses.replace(setting.schedule, epochs=epochs)
    return study.Cell(dataclasses.replace(setting, schedule=schedule), method, tuple(overrides.items()))


LITTLE = study.Study(variants={}, seeds=1, attacks=few_attacks)


class RunTest(tf.test.TestCase):
    def test_a_killed_cell_goes_on_at_its_epoch(self):
        cell, folder = little_cell(weight=5.0), self.get_temp_dir()
        write = study.History.on_epoch_end

        def fail_in_the_last(callback, epoch, logs=None):
            if epoch == 2:
                raise InterruptedError("The machine went away.")
            write(callback, epoch, logs)

        with mock.patch.object(study.History, "on_epoch_end", fail_in_the_last):
            with self.assertRaises(InterruptedError):
                study.run(cell, LITTLE, folder)
        with open(os.path.join(folder, "history.jsonl")) as file:
            before = [json.loads(line) for line in file]
        self.assertLen(before, 2)
        result = study.run(cell, LITTLE, folder)
        self.assertEqual(result["history"][:2], before)
        self.assertLen(result["history"], 3)
        # A third run has nothing left to train or attack, and says the same.
        with mock.patch.object(study.training, "fit", side_effect=AssertionError("Trained again.")):
            again = study.run(cell, LITTLE, folder)
        self.assertEqual(again, result)
        self.assertEqual(json.loads(json.dumps(result))["recipe"]["weight"], 5.0)

    def test_what_a_result_holds(self):
        result = study.run(little_cell("plain", epochs=1), LITTLE, self.get_temp_dir())
        self.assertEqual(result["name"], "digits-small_cnn-plain-seed0")
        self.assertEqual(result["chosen_epoch"], 1)
        report = fr.RobustnessReport.from_dict(result["test"])
        self.assertEqual(report.examples, 40)
        self.assertLen(result["bounds"]["rise"], len(result["bounds"]["flow"]))
        self.assertAllGreaterEqual(np.subtract(result["bounds"]["input"], result["bounds"]["flow"]), 0)

    def test_the_recipe_chooses_the_activation(self):
        cell = little_cell("plain", activation="gelu")
        self.assertEqual(cell.name, "digits-small_cnn-plain-activation=gelu-seed0")
        network = cell.build_model(cell.load()).base_model
        activations = [layer.activation for layer in network.layers if isinstance(layer, keras.layers.Activation)]
        self.assertEqual(activations, [keras.activations.gelu] * 3)

    def test_a_cell_does_not_depend_on_what_ran_before(self):
        cell = dataclasses.replace(little_cell(), seed=3)

        def start(other_seed):
            tf.random.set_seed(other_seed)
            dataset = cell.load()
            keras.layers.Dense(1).build([None, 1])
            model = cell.build_model(dataset)
            labels = [labels for _ in range(2) for _, labels in dataset.train]
            return np.concatenate(labels), model.get_weights()

        (first, weights), (second, same_weights) = start(1), start(2)
        self.assertAllEqual(first, second)
        for ours, theirs in zip(weights, same_weights):
            self.assertAllEqual(ours, theirs)

    def test_what_a_setting_changes_in_every_cell(self):
        cell = little_cell("flow_gradient", warmup=0.25)
        setting = dataclasses.replace(cell.setting, changes=(("weight", 7.0), ("activation", "gelu")))
        for overrides, weight in (((), 7.0), ((("weight", 9.0),), 9.0)):
            recipe = dataclasses.replace(cell, setting=setting, overrides=cell.overrides + overrides).recipe
            self.assertEqual((recipe.weight, recipe.activation, recipe.schedule.warmup), (weight, "gelu", 0.25))

    def test_the_best_epoch_is_kept(self):
        folder = self.get_temp_dir()
        # The first is in the warm-up; clean and robust accuracy count alike.
        clean, robust = [0.9, 0.9, 0.5, 0.8], [0.9, 0.2, 0.5, 0.4]

        def log(callback, epoch, logs=None):
            logs.update(val_accuracy=clean[epoch], val_robust_accuracy=robust[epoch])
            callback.model.save_weights(os.path.join(folder, f"{epoch}.weights.h5"))

        with mock.patch.object(fr.callbacks.RobustAccuracyMonitor, "on_epoch_end", log):
            model, history = study._trained(little_cell(weight=5.0, epochs=4), folder)
        self.assertAllClose([epoch["val_score"] for epoch in history], [0, 0, 0.5, 0.6])
        kept = model.base_model.get_weights()
        for epoch in range(4):
            model.load_weights(os.path.join(folder, f"{epoch}.weights.h5"))
            same = all(np.array_equal(ours, theirs) for ours, theirs in zip(kept, model.base_model.get_weights()))
            self.assertEqual(same, epoch == 3)


class GridTest(tf.test.TestCase):
    def test_names_are_unique_and_shares_make_the_whole(self):
        for preset in presets.PRESETS.values():
            names = [cell.name for cell in preset.cells()]
            self.assertLen(set(names), len(names))
            self.assertEqual(sorted(names[0::3] + names[1::3] + names[2::3]), sorted(names))

    def test_the_committed_results_are_those_of_the_cells(self):
        folders = {
            "cpu": "",
            "ablation": "ablation",
            "paper": "full_width",
            "half_width": "half_width",
            "quarter_width": "quarter_width",
        }
        for preset, folder in folders.items():
            cells = {cell.name: cell for cell in presets.PRESETS[preset].cells(3)}
            for path in (COMMITTED / folder).glob("*.json"):
                study.expect_result_of(cells[path.stem], str(path))

    def test_cells_by_name(self):
        smoke = presets.PRESETS["smoke"]
        names = [cell.name for cell in smoke.cells(2)]
        self.assertEqual([cell.name for cell in smoke.cells(2, names[2:])], names[2:])
        with self.assertRaisesRegex(ValueError, f"(?s)`--cell` to be one of.*{names[0]}.*Received other"):
            smoke.cells(2, [names[1], "other"])

    def test_the_papers_weights(self):
        cells = presets.PRESETS["paper"].cells(seeds=1)
        weights = [cell.recipe.weight for cell in cells if cell.recipe.gradient_at == "identity"]
        self.assertAllClose(weights, [1.467, 2.933, 4.4], atol=1e-3)
        (setting,) = presets.PRESETS["paper"].variants
        self.assertEqual((setting.schedule.epochs, setting.schedule.milestones), (80, (40, 60)))


if __name__ == "__main__":
    tf.test.main()

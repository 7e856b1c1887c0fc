"""Tests of a study's report on results that are made up, so that every choice and verdict is known."""

import json
import os
import pathlib
import shutil

import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from flowreg_examples import study_report
from flowreg_examples.study_report import figures, variants
from keras_flowreg.evaluation import Run

EXAMPLES = 200
MEASURES = {"loss": 1.0, "median": 0.1, "largest": 0.4, "roughness": 0.1, "queries": 10.0, "seconds": 1.0}


def first(count):
    return np.arange(EXAMPLES) < count


def report(clean, robust):
    """`robust` examples hold against both attacks, and 10 more by gradient steps."""
    runs = {Run("FlowPGD", 0.4): first(robust + 10), Run("FlowFrankWolfe", 0.4): first(robust)}
    return fr.RobustnessReport({}, {}, EXAMPLES, first(clean), runs, dict.fromkeys(runs, MEASURES)).to_dict()


def result(method, weight, validation, test, seed=0):
    return {
        "name": f"digits-net-{method}-weight={weight:g}-seed{seed}",
        "variant": f"{method}-weight={weight:g}",
        "setting": {
            "dataset": "digits",
            "architecture": "net",
            "width": 0.5,
            "train_size": None,
            "batch_size": 64,
            "schedule": {"epochs": 1},
            "epsilon": 0.4,
            "examples": EXAMPLES,
        },
        "recipe": {"method": method, "weight": weight},
        "seed": seed,
        "history": [{"val_accuracy": 0.9}],
        "bounds": {"flow": [1.0, 2.0], "input": [4.0, 8.0], "rise": [0.5, 3.0]},
        "validation": report(*validation),
        "test": report(*test),
    }


class StudyReportTest(tf.test.TestCase):
    def written(self, results):
        folder = self.get_temp_dir()
        for one in results:
            with open(os.path.join(folder, f"{one['name']}.json"), "w") as file:
                json.dump(one, file)
        with open(study_report.write(folder), encoding="utf-8") as file:
            text = file.read()
        for picture in ("curves.png", "radii.png", "bounds.png"):
            self.assertGreater(os.path.getsize(os.path.join(folder, picture)), 5_000)
        return text

    def test_choices_and_verdicts(self):
        text = self.written(
            [
                result("plain", 0, (190, 20), (190, 20)),
                # More robust on validation images, but it costs 6 points of clean accuracy there.
                result("flow_gradient", 9, (178, 160), (190, 180)),
                result("flow_gradient", 3, (182, 120), (180, 110)),
                # Better on test images, which choose nothing.
                result("flow_gradient", 1, (190, 60), (190, 170)),
                result("input_gradient", 1, (185, 50), (185, 50)),
                {
                    **result("flow_gradient", 3, (190, 130), (190, 120)),
                    "name": "digits-smooth",
                    "variant": "flow_gradient-weight=3-activation=swish",
                },
                result("deformation_training", 0, (185, 110), (185, 140)),
                result("flow_gradient+deformation_training", 1, (185, 120), (185, 141)),
            ]
        )
        self.assertIn("**flow_gradient-weight=3**", text)
        self.assertNotIn("**flow_gradient-weight=9**", text)
        self.assertNotIn("**flow_gradient-weight=1**", text)

        def verdict(claim):
            return next(line for line in text.splitlines() if line.startswith(f"| {claim}") and "FrankWolfe" in line)

        # 60 of 200 examples more: 30 points, ± 1.96 · sqrt(0.3 · 0.7 / 199).
        # Of clean ones 5 fewer.
        self.assertIn("| -2.5 | -4.7 to -0.3 | +30.0 | +23.6 to +36.4 | holds |", verdict("1."))
        self.assertIn("| -2.5 | -4.7 to -0.3 | -15.0 | -20.0 to -10.0 | fails |", verdict("2."))
        # 10 of 200 more, of clean and of robust examples: ± 1.96 · sqrt(0.05 · 0.95 / 199).
        self.assertIn(
            "| +5.0 | +2.0 to +8.0 | +5.0 | +2.0 to +8.0 | holds |", verdict("flow gradient with swish over ReLU")
        )
        self.assertIn("| +0.0 | +0.0 to +0.0 | +0.5 | -0.5 to +1.5 | open |", verdict("4."))
        self.assertIn("| digits-net | flow_gradient | 1.8 | 1.5 | 6 | 4.0 | 50.0% | 0.0% |", text)

    def test_the_authors_form_is_a_family_of_its_own(self):
        authors = "flow_gradient-weight=4-random_start=0.155-gradient_at=identity-lattice=forward"
        text = self.written(
            [
                result("plain", 0, (190, 20), (190, 20)),
                result("flow_gradient", 4, (190, 60), (190, 60)),
                {**result("flow_gradient", 4, (180, 80), (180, 80)), "name": "digits-authors", "variant": authors},
            ]
        )
        self.assertIn("**flow_gradient-weight=4-authors**", text)
        rows = [line for line in text.splitlines() if line.startswith("| flow gradient over plain training")]
        self.assertLen(rows, 2)
        self.assertIn("| +0.0 | +0.0 to +0.0 | +20.0 |", rows[0])
        self.assertStartsWith(rows[1], "| flow gradient over plain training, the authors' form | digits-net")
        self.assertIn("| -5.0 | -8.0 to -2.0 | +30.0 |", rows[1])

    def test_a_shorter_training_is_a_family_of_its_own(self):
        swish = "flow_gradient-weight=4-activation=swish"
        cosine = f"{swish}-epochs=40-learning_rate=0.1-milestones=none-clip_norm=1"
        text = self.written(
            [
                result("plain", 0, (190, 20), (190, 20)),
                {**result("flow_gradient", 4, (180, 60), (180, 60)), "name": "digits-swish", "variant": swish},
                {**result("flow_gradient", 4, (190, 80), (190, 80)), "name": "digits-cosine", "variant": cosine},
            ]
        )
        self.assertIn(f"**{swish}-cosine**", text)
        rows = [line for line in text.splitlines() if line.startswith("| flow gradient with swish, 40 epochs")]
        self.assertIn("| digits-net | FlowFrankWolfe 0.4 | +5.0 | +2.0 to +8.0 | +10.0 |", rows[0])

    def test_each_family_has_a_color_of_its_own(self):
        self.assertEqual(set(figures.COLORS), set(variants.FAMILIES))
        self.assertLen(set(figures.COLORS.values()), len(variants.FAMILIES))

    def test_a_shorter_training_is_compared_with_shorter_ones(self):
        ending = "-activation=swish-epochs=40-learning_rate=0.1-milestones=none-clip_norm=1"
        cells = {
            "plain": ("plain", 0, (190, 20)),
            f"plain{ending}": ("plain", 0, (195, 30)),
            f"flow_gradient-weight=4{ending}": ("flow_gradient", 4, (180, 80)),
            f"intensity_training{ending}": ("intensity_training", 0, (180, 60)),
            f"deformation_training{ending}-deformation=FlowFrankWolfe-steps=1": ("deformation_training", 0, (170, 90)),
        }
        text = self.written(
            [
                {**result(method, weight, counts, counts), "name": f"digits-{variant}", "variant": variant}
                for variant, (method, weight, counts) in cells.items()
            ]
        )
        rows = [line.split(" | ") for line in text.splitlines() if "swish along a cosine, one step" in line]
        differences = {row[0]: (row[3], row[5]) for row in rows if row[2] == "FlowFrankWolfe 0.4"}
        form = ", swish along a cosine, one step"
        self.assertEqual(differences[f"| flow gradient over plain training{form}"], ("-7.5", "+25.0"))
        self.assertEqual(differences[f"| 2. flow gradient over adversarial training{form}"], ("+0.0", "+10.0"))
        self.assertEqual(differences[f"| 2. flow gradient over deformation training{form}"], ("+5.0", "-5.0"))

    def test_which_epoch_was_kept(self):
        chosen, last = result("plain", 0, (190, 20), (190, 20)), result("plain", 0, (190, 20), (190, 20), seed=1)
        last["history"] = [{"accuracy": 0.9}]
        for results, has_chosen, has_last in (([last], False, True), ([chosen, last], True, True)):
            text = self.written(results)
            self.assertEqual("Of the epochs after the warm-up" in text, has_chosen)
            self.assertEqual("the last epoch was kept" in text, has_last)

    def test_what_changes_to_a_recipe_do(self):
        own = result("flow_gradient", 5, (190, 90), (190, 100))
        changes = {"": own, "-gradient_norm=l1": result("flow_gradient", 5, (190, 90), (188, 40))}
        changes["-penalty_every=2"] = result("flow_gradient", 5, (190, 90), (190, 101))
        text = self.written(
            [
                {**made, "name": f"digits{change}", "variant": f"flow_gradient{change}"}
                for change, made in changes.items()
            ]
        )
        self.assertNotIn("The claims", text)
        self.assertIn(
            "| digits-net | flow_gradient | gradient_norm=l1 | -1.0 | -2.4 to +0.4 | -30.0 | -36.4 to -23.6 | worse |",
            text,
        )
        self.assertRegex(text, r"\| penalty_every=2 \| \+0.0 \| .* \| \+0.5 \| -0.5 to \+1.5 \| alike \|")

    def test_seeds_are_averaged(self):
        text = self.written(
            [result("plain", 0, (190, 20), (190, robust), seed) for seed, robust in enumerate((20, 40, 60))]
        )
        self.assertRegex(text, r"\*\*plain-weight=0\*\* \| 3 \| 0.950 .* \| 0.250 \| 0.200 \| 0.200 \(0.147–0.262\) \|")
        self.assertIn("| digits-net | 0.5 | all but validation | 64 | 1 | 200 | 0, 1, 2 |", text)

    def test_a_claim_holds_for_every_seed(self):
        robust = {"plain": (20, 40), "flow_gradient": (100, 140, 0), "input_gradient": (60, 150)}
        results = [
            result(method, 1, (190, 20), (190, count), seed)
            for method, counts in robust.items()
            for seed, count in enumerate(counts)
        ]
        lines = [line for line in self.written(results).splitlines() if "FrankWolfe 0.4 | +0.0 (+0.0 to +0.0)" in line]
        # 80 and 100 of 200 more; the third seed has no partner.
        self.assertIn("| +45.0 (+40.0 to +50.0) |", lines[0])
        self.assertEndsWith(lines[0], "| holds |")
        # 40 more and 10 fewer: 7.5 points, whose interval is above zero.
        self.assertIn("| +7.5 (-5.0 to +20.0) | +", lines[1])
        self.assertEndsWith(lines[1], "| open |")

    def test_the_committed_report_is_of_the_committed_results(self):
        committed = pathlib.Path(__file__).resolve().parents[3] / "docs" / "reproduction"
        if not committed.exists():
            self.skipTest("The documents are not here.")
        for results in (committed, *(path.parent for path in committed.glob("*/report.md"))):
            folder = os.path.join(self.get_temp_dir(), results.name)
            os.makedirs(folder)
            for path in results.glob("*.json"):
                shutil.copy(path, folder)
            written = pathlib.Path(study_report.write(folder)).read_text(encoding="utf-8")
            self.assertEqual(written, (results / "report.md").read_text(encoding="utf-8"))

    def test_no_results(self):
        with self.assertRaisesRegex(ValueError, "Expected results of reproduce.py in .*Received none"):
            study_report.write(self.get_temp_dir())


if __name__ == "__main__":
    tf.test.main()

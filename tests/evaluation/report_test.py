"""Tests of a report on records that are made up, so that every number is known."""

import json
import pathlib

import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.evaluation import Accuracy, Finding, RobustnessReport, Run, accuracy
from keras_flowreg.evaluation.record import AttackRecord
from tests.evaluation.records import record

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
WEAK, STRONG, GRID = Run("FlowPGD", 0.2), Run("FlowPGD", 0.4), Run("grid", None)
SETTINGS = {"weights": "0a1b2c3d", "loss": "margin", "attacks": [], "seed": 0}


def report(findings=(), **changes):
    """Ten examples, of which the first is misclassified; then 2, 5 and 3 more are fooled."""
    clean = np.arange(10) < 1

    def fooled(count):
        return record(np.arange(10) <= count, clean_success=clean, **changes)

    made = RobustnessReport.from_records(
        SETTINGS, {"keras": "2"}, {WEAK: fooled(2), STRONG: fooled(5), GRID: fooled(3)}
    )
    made.findings.extend(findings)
    return made


class RobustnessReportTest(tf.test.TestCase):
    def test_from_records(self):
        made = report()
        self.assertEqual((made.examples, made.clean_accuracy.value), (10, 0.9))
        self.assertEqual([made.robust_accuracy(*run).value for run in (WEAK, STRONG, GRID)], [0.7, 0.4, 0.6])
        self.assertTrue(made.trustworthy)
        # Over the nine that are correct, of which the record counts the losses from 1.5 and the queries from 8.
        expected = {"loss": 5.5, "queries": 12.0, "median": 0.1, "largest": 0.4, "roughness": 0.2, "seconds": 1.5}
        self.assertAllClose(made.measures[WEAK], expected)

    def test_worst_case_is_over_smaller_radii_too(self):
        first = record([False, True, False], clean_success=np.zeros(3, bool))
        second = record([True, False, False], clean_success=np.zeros(3, bool))
        made = RobustnessReport.from_records(SETTINGS, {}, {Run("a", 0.1): first, Run("b", 0.2): second})
        worst = made.worst_case()
        self.assertAllEqual(worst[0.1], [True, False, True])
        self.assertAllEqual(worst[0.2], [False, False, True])

    def test_a_radius_that_is_no_displacement_is_not_in_the_worst_case(self):
        flow, noise = (record(success, clean_success=np.zeros(3, bool)) for success in ([False] * 3, [True] * 3))
        records = {Run("flow", 0.1): flow, Run("flow", 0.2): flow, Run("noise", 0.1): noise}
        proven = {0.1: np.array([True, True, False]), 0.2: np.array([True, False, False])}
        made = RobustnessReport.from_records(SETTINGS, {}, records, proven, ["noise"])
        again = RobustnessReport.from_json(made.to_json())
        for each in (made, again):
            self.assertAllEqual(list(each.worst_case()), [0.1, 0.2])
            self.assertAllEqual(each.worst_case()[0.1], [True] * 3)
            self.assertEqual(each.robust_accuracy("noise", 0.1).value, 0)
            self.assertIn("noise (radius not in pixels) | 0.1 |", each.to_markdown())
            labels = [line.get_label() for line in each.plot().get_lines()]
            self.assertAllEqual(labels[:2], ["flow", "noise (radius not in pixels)"])
        self.assertEqual(again, made)

    def test_the_band_lies_over_what_is_certified(self):
        robust = record([False] * 4, clean_success=np.zeros(4, bool))
        records = {Run("a", epsilon): robust for epsilon in (0.1, 0.2, 0.4)}
        proven = {0.4: np.arange(4) < 1, 0.1: np.arange(4) < 3}
        made = RobustnessReport.from_records(SETTINGS, {}, records, proven)
        band = made.plot().collections[-1]
        corners = {(round(float(x), 2), round(float(y), 2)) for x, y in band.get_paths()[0].vertices}
        self.assertEqual(corners, {(0.1, 0.75), (0.4, 0.25), (0.1, 1), (0.4, 1)})

    def test_records_of_different_examples(self):
        with self.assertRaisesRegex(ValueError, "Expected records of the same examples.*'FlowPGD 0.2': 2, 'grid': 3"):
            RobustnessReport.from_records(SETTINGS, {}, {WEAK: record([True] * 2), GRID: record([True] * 3)})

    def test_plain_values_and_back(self):
        made = report([Finding("a check", "a message")])
        values = made.to_dict()
        self.assertEqual(values["schema_version"], 1)
        self.assertEqual(values["correct"], "0111111111")
        self.assertEqual(values["runs"][1]["robust"], "0000001111")
        self.assertEqual(values["runs"][1]["accuracy"], accuracy(np.arange(10) > 5)._asdict())
        self.assertEqual(values["worst_case"][0]["epsilon"], 0.2)
        self.assertEqual(values["findings"], [{"check": "a check", "message": "a message"}])
        self.assertFalse(values["trustworthy"])
        before = json.dumps(values)
        again = RobustnessReport.from_dict(values)
        self.assertEqual(again, made)
        self.assertEqual(json.dumps(values), before)
        self.assertEqual(RobustnessReport.from_json(made.to_json()), made)
        self.assertEqual(json.loads(made.to_json()), values)
        self.assertNotEqual(made, report())

    def test_certified(self):
        made = report()
        made.certified = {0.2: np.arange(10) > 3, 0.4: np.arange(10) > 7}
        values = made.to_dict()
        self.assertEqual([case["certified"] for case in values["certified"]], ["0000111111", "0000000011"])
        self.assertEqual(values["certified"][0]["accuracy"], accuracy(np.arange(10) > 3)._asdict())
        self.assertEqual(RobustnessReport.from_json(made.to_json()), made)
        self.assertNotEqual(made, report())
        self.assertNotIn("certified", report().to_dict())
        self.assertIn("| **certified** | 0.4 | 0.200 | 0.025–0.556 |", made.to_markdown())
        curve = made.plot().get_lines()[-1]
        self.assertAllClose(curve.get_xydata(), [[0, 0.9], [0.2, 0.6], [0.4, 0.2]])

    def test_examples_that_were_not_attacked(self):
        partial = AttackRecord.of_no_attack(5).with_rows(np.array([1, 3]), record([True, False]))
        made = RobustnessReport.from_records(SETTINGS, {}, {WEAK: partial, GRID: record([True] * 5)})
        self.assertEqual(list(made.attacked), [WEAK])
        self.assertAllEqual(made.attacked[WEAK], [False, True, False, True, False])
        self.assertAllEqual(made.robust[WEAK], [True, False, True, True, True])
        # Over the two that were attacked, of which the record counts the losses from 0.5 and the queries from 7.
        self.assertAllClose([made.measures[WEAK][name] for name in ("loss", "queries", "largest")], [1.0, 7.5, 0.4])
        self.assertEqual([run.get("attacked") for run in made.to_dict()["runs"]], ["01010", None])
        self.assertEqual(RobustnessReport.from_json(made.to_json()), made)
        self.assertIn("| FlowPGD | 0.2 | 0.800 | 0.284–0.995 | 2 | 1.000 |", made.to_markdown())
        self.assertIn("the others are certified", made.to_markdown())
        self.assertNotIn("the others are certified", report().to_markdown())

    def test_numbers_that_are_not_finite(self):
        made = report(loss=np.full(10, np.inf))
        self.assertEqual(made.to_dict()["runs"][0]["loss"], None)
        self.assertNotIn("Infinity", made.to_json())
        again = RobustnessReport.from_json(made.to_json())
        self.assertAllEqual(np.isnan(again.measures[WEAK]["loss"]), True)
        self.assertEqual(again.measures[WEAK]["queries"], made.measures[WEAK]["queries"])
        self.assertEqual(again, made)

    def test_no_example_is_correct(self):
        wrong = record([True, True], clean_success=np.ones(2, bool))
        made = RobustnessReport.from_records(SETTINGS, {}, {WEAK: wrong})
        self.assertTrue(np.isnan(made.measures[WEAK]["loss"]))
        self.assertIn("| FlowPGD | 0.2 | 0.000 | 0.000–0.842 | 2 |  |  |  |  |  | 1.5 |", made.to_markdown())
        self.assertEqual(RobustnessReport.from_json(made.to_json()), made)

    def test_another_schema(self):
        with self.assertRaisesRegex(ValueError, "Expected a report of schema version 1. Received 7"):
            RobustnessReport.from_dict({**report().to_dict(), "schema_version": 7})
        with self.assertRaisesRegex(ValueError, "Expected a report of schema version 1. Received None"):
            RobustnessReport.from_dict({})

    def test_the_committed_results_are_still_read(self):
        paths = sorted((DOCS / "reproduction").glob("*.json"))
        self.assertNotEmpty(paths)
        for path in paths:
            result = json.loads(path.read_text(encoding="utf-8"))
            again = fr.RobustnessReport.from_dict(result["test"]).to_dict()
            self.assertTrue(again == result["test"], path.name)  # assertEqual would print both.

    def test_table(self):
        table = report([Finding("a check", "a message")]).to_markdown()
        self.assertIn("| clean |  | 0.900 | 0.555–0.997 |", table)
        self.assertIn("| FlowPGD | 0.4 | 0.400 | 0.122–0.738 | 10 | 5.500 | 0.100 | 0.400 | 0.200 | 12 | 1.5 |", table)
        self.assertIn("| grid |  | 0.600 |", table)
        self.assertIn("| **worst case** | 0.4 | 0.400 |", table)
        self.assertIn("- **a check**: a message\n\nNot to be trusted", table)

    def test_print_and_notebooks_show_the_table(self):
        made = report()
        self.assertEqual(str(made), made.to_markdown())
        self.assertEqual(made._repr_markdown_(), made.to_markdown())
        self.assertEqual(repr(made), "<RobustnessReport of 10 examples: FlowPGD 0.2, FlowPGD 0.4, grid>")

    def test_plot(self):
        axes = report().plot()
        curve, grid, worst = axes.get_lines()
        self.assertAllClose(curve.get_xydata(), [[0, 0.9], [0.2, 0.7], [0.4, 0.4]])
        self.assertAllClose(grid.get_ydata(), [0.6, 0.6])
        self.assertAllClose(worst.get_xydata(), [[0, 0.9], [0.2, 0.7], [0.4, 0.4]])
        self.assertIn("10 examples", axes.get_title())
        self.assertIn("not to be trusted", report([Finding("a", "b")]).plot(axes).get_title())

    def test_there_is_no_such_run(self):
        with self.assertRaisesRegex(ValueError, "Expected one of.*'FlowPGD 0.2'.*Received nothing"):
            report().robust_accuracy("nothing")

    def test_interval(self):
        # Clopper-Pearson for 0 of n has the closed form 1 - (α/2)^(1/n).
        self.assertAllClose(accuracy(np.zeros(50, bool)), Accuracy(0, 0, 1 - 0.025 ** (1 / 50)))


if __name__ == "__main__":
    tf.test.main()

"""Tests of the leaderboard: entering a classifier, checking an entry, and the tables."""

import os
import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from flowreg_examples import leaderboard
from keras_flowreg import model_card
from keras_flowreg.commands import architectures
from keras_flowreg.evaluation import RobustnessReport, Run
from keras_flowreg.evaluation.results import Finding
from tests import command_line
from tests.evaluation import records

COMMITTED = pathlib.Path(__file__).resolve().parents[2] / "leaderboard"
EXAMPLES = 20


def entry(name, correct, broken, certified=None, **options):
    """An entry of 10 images; an attack breaks the first ones at every radius."""
    record = records.record(np.arange(10) < broken, clean_success=np.arange(10) < 10 - correct)
    runs = {Run("AutoDeform", epsilon): record for epsilon in leaderboard.RADII["digits"]}
    report = RobustnessReport.from_records({}, {}, runs, certified)
    values = {"dataset": "digits", "model": f"digits/{name}", "training": "plain", "parameters": 1000, **options}
    return leaderboard.Entry(name=name, report=report, **values)


class LeaderboardTest(tf.test.TestCase):
    def test_a_network_is_entered_and_comes_out_again(self):
        folder = self.get_temp_dir()
        network = architectures.build("strided_cnn", (28, 28, 1), 10, 0.2)
        file = os.path.join(folder, "mine.keras")
        fr.FlowRegularizedModel(network).save(file)
        model = fr.load_classifier(file)
        report = leaderboard.evaluate(model, "digits", True, examples=EXAMPLES)
        leaderboard.enter(folder, "digits", "mine", file, model, "not at all", report)
        [written] = leaderboard.read_all(folder)
        self.assertEqual(written.report, report)
        parameters = sum(np.size(weights) for weights in network.get_weights())
        self.assertEqual((written.model, written.parameters), ("digits/mine", parameters))

        images = np.random.RandomState(0).rand(4, 28, 28, 1).astype("float32")
        for handle in (leaderboard.handle_of(folder, written), os.path.join(folder, written.model)):
            self.assertAllClose(fr.load_classifier(handle)(images), network(images), atol=1e-5)
        kept = fr.load_classifier(leaderboard.handle_of(folder, written))
        anew = leaderboard.evaluate(kept, "digits", True, examples=10)
        self.assertEqual(set(leaderboard.differences(written, anew).values()), {0})

        # Of a classifier that is elsewhere nothing is copied.
        exported = os.path.join(folder, written.model)
        leaderboard.enter(folder, "digits", "elsewhere", exported, fr.load_classifier(exported), "not at all", report)
        self.assertNotIn("elsewhere", os.listdir(os.path.join(folder, "digits")))
        first, _ = leaderboard.read_all(folder)
        self.assertEqual((first.name, leaderboard.handle_of(folder, first)), ("elsewhere", exported))

        leaderboard.renew(folder, written, anew)
        renewed = leaderboard.Entry.read(leaderboard.json_path(folder, "digits", "mine"))
        self.assertEqual(renewed.report.examples, 10)
        card = model_card.read(os.path.join(folder, written.model))
        self.assertEqual((card["robustness"]["examples"], card["training"]["training"]), (10, "not at all"))
        text = pathlib.Path(folder, "digits", "mine", "model_card.md").read_text(encoding="utf-8")
        self.assertIn("On 10 examples", text)

    def test_files_of_others_are_left_alone(self):
        folder = pathlib.Path(self.get_temp_dir(), "digits")
        folder.mkdir()
        for name, content, message in (
            ("notes.json", "{}", "notes.json, which is"),
            ("other.h5", "", "other.h5, which is"),
        ):
            (folder / name).write_text(content)
            with self.assertRaisesRegex(
                ValueError, f"`--name` to be new, or an entry. Received .*{message} another file"
            ):
                leaderboard.expect_free(str(folder / f"{name.split('.')[0]}.json"), "mine.keras")
        with self.assertRaisesRegex(ValueError, "`--model` to be no file of an entry. Received .*other.h5"):
            leaderboard.expect_free(str(folder / "other.json"), str(folder / "other.h5"))
        leaderboard.expect_free(str(COMMITTED / "digits" / "plain.json"), "mine.keras")

    def test_a_difference_of_one_image_is_rounding_and_of_more_is_not(self):
        leaderboard.expect_same(entry("mine", 9, 4), entry("mine", 9, 5).report)
        with self.assertRaisesRegex(ValueError, "Expected digits/mine to be as robust as it was. .*attacked"):
            leaderboard.expect_same(entry("mine", 9, 4), entry("mine", 9, 6).report)
        certified = dict.fromkeys(leaderboard.RADII["digits"], np.arange(10) >= 8)
        less = dict.fromkeys(leaderboard.RADII["digits"], np.arange(10) >= 10)
        with self.assertRaisesRegex(ValueError, "certified"):
            leaderboard.expect_same(entry("mine", 9, 4, certified), entry("mine", 9, 4, less).report)

    def test_tables_by_rank(self):
        certified = {epsilon: np.arange(10) >= 8 for epsilon in leaderboard.RADII["digits"]}
        entries = [entry("weak", 10, 9), entry("strong", 9, 4, certified), entry("other", 9, 5, parameters=None)]
        for each in entries:
            path = leaderboard.json_path(self.get_temp_dir(), "digits", each.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(each.to_json())
        with mock.patch.object(leaderboard, "EXAMPLES", 10):
            page = leaderboard.page(leaderboard.read_all(self.get_temp_dir()))
        rows = [line for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
        cell = " | 0.200\u20130.600" * 3
        self.assertEqual(rows[0], f"| 1 | `strong` | 0.900{cell} | 1,000 | plain |")
        self.assertEqual(rows[1], "| 2 | `other` | 0.900 | 0.500 | 0.500 | 0.500 |  | plain |")
        self.assertStartsWith(rows[2], "| 3 | `weak` | 1.000 | 0.100 |")

    def test_another_number_of_images_is_told(self):
        self.assertIn("| `mine`, 10 images |", leaderboard.page([entry("mine", 9, 4)]))

    def test_findings_are_told(self):
        mine = entry("mine", 9, 4)
        mine.report.findings.append(Finding("a check", "It is too good."))
        self.assertIn("- `mine`: It is too good.", leaderboard.page([mine, entry("other", 9, 4)]))

    def test_an_older_attack_is_told(self):
        today, before, unknown = entry("today", 9, 4), entry("before", 9, 4), entry("unknown", 9, 4)
        settings = fr.attacks.AutoDeform(0.4).settings()
        today.report.settings["attacks"] = [settings]
        before.report.settings["attacks"] = [{**settings, "members": settings["members"][:-1]}]
        unknown.report.settings["attacks"] = [{"class": "AutoDeform"}]
        self.assertIn("which may find more today: `before`, `unknown`.", leaderboard.page([today, before, unknown]))
        self.assertNotIn("may find more", leaderboard.page([today]))

    def test_pages_of_others_and_folders_without_entries(self):
        folder = self.get_temp_dir()
        page = os.path.join(folder, "page.md")
        for content, options, message in (
            ("my notes", [f"--folder={COMMITTED}"], "`--page` to be new, or a leaderboard's"),
            ("# Leaderboard\n", [f"--folder={folder}/leaderbord"], "`--folder` to hold entries"),
        ):
            pathlib.Path(page).write_text(content, encoding="utf-8")
            code, _, errors = command_line.run("examples/leaderboard.py", f"--page={page}", *options)
            self.assertEqual(code, 1)
            self.assertIn(message, errors.splitlines()[-1])
            self.assertEqual(pathlib.Path(page).read_text(encoding="utf-8"), content)

    def test_the_committed_entries(self):
        entries = leaderboard.read_all(COMMITTED)
        self.assertNotEmpty(entries)
        for each in entries:
            with self.subTest(f"{each.dataset}/{each.name}"):
                classifier = fr.load_classifier(os.path.join(COMMITTED, each.model))
                self.assertGreaterEqual(sum(map(np.size, classifier.get_weights())), each.parameters)
        page = (COMMITTED.parent / "docs" / "leaderboard.md").read_text(encoding="utf-8")
        self.assertEqual(page, leaderboard.page(entries))

    def test_a_committed_entry_anew(self):
        path = leaderboard.json_path(COMMITTED, "digits", "certified_training")
        written = leaderboard.Entry.read(path)
        model = fr.load_classifier(leaderboard.handle_of(COMMITTED, written))
        anew = leaderboard.evaluate(model, "digits", True, examples=EXAMPLES)
        leaderboard.expect_same(written, anew)
        anew.robust = {run: ~robust for run, robust in anew.robust.items()}
        with self.assertRaisesRegex(ValueError, "attacked"):
            leaderboard.expect_same(written, anew)


if __name__ == "__main__":
    tf.test.main()

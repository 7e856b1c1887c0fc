"""Tests that run the example scripts as a user does, with little work."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
from unittest import mock

import numpy as np
import tensorflow as tf

from keras_flowreg.evaluation import RobustnessReport, Run
from tests import command_line
from tests.evaluation import records

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


def run(script, *arguments):
    return command_line.run(f"examples/{script}", *arguments)


@contextlib.contextmanager
def replaced(path, content):
    """Another content of a file, as long as the context lasts."""
    file = pathlib.Path(path)
    before = file.read_bytes() if file.exists() else None
    file.write_text(content, encoding="utf-8")
    yield
    file.unlink() if before is None else file.write_bytes(before)


class ScriptsTest(tf.test.TestCase):
    RESULTS = ("digits-small_cnn-plain-seed0.json", "digits-small_cnn-flow_gradient-weight=5-seed0.json")

    def assert_succeeds(self, ended):
        code, output, errors = ended
        self.assertEqual(code, 0, errors[-2000:])
        return output

    def test_reproduce_in_shares(self):
        folder = os.path.join(self.get_temp_dir(), "study")
        study = ["reproduce.py", "--preset=smoke", f"--output={folder}"]
        self.assert_succeeds(run(*study, "--shard=2/2"))
        self.assertEqual(set(os.listdir(folder)) & {self.RESULTS[0]}, set())
        output = self.assert_succeeds(run(*study))
        self.assertNotIn("[2/2]", output)
        self.assertContainsSubset([*self.RESULTS, "report.md", "curves.png"], os.listdir(folder))
        with open(os.path.join(folder, "report.md"), encoding="utf-8") as file:
            self.assertRegex(file.read(), r"\*\*flow_gradient-weight=5\*\* \| 1 \| 0\.\d+")
        os.remove(os.path.join(folder, "report.md"))
        self.assert_succeeds(run(*study, "--report"))
        self.assertIn("report.md", os.listdir(folder))
        # All that is there is looked at before a cell is run.
        os.remove(os.path.join(folder, self.RESULTS[0]))
        for path, content, message in (
            (self.RESULTS[1], "{}", "a result of reproduce.py"),
            ("package.json", '{"name": "theirs"}', "a result of reproduce.py"),
            ("report.md", "notes", "which is another file"),
            ("radii.png", "notes", "which is another file"),
        ):
            with replaced(os.path.join(folder, path), content), mock.patch("flowreg_examples.study.run") as cell:
                code, _, errors = run(*study)
                self.assertEqual((code, cell.call_count), (1, 0), errors)
                self.assertIn(message, errors.splitlines()[-1])
                with open(os.path.join(folder, path), encoding="utf-8") as file:
                    self.assertEqual(file.read(), content)
        with mock.patch("flowreg_examples.study.run") as cell:
            code, _, errors = run(*study, "--examples=7")
        self.assertEqual((code, cell.call_count), (1, 0), errors)
        self.assertIn("the result of this cell", errors.splitlines()[-1])

    def test_demo_gallery_and_figures(self):
        folder = self.get_temp_dir()
        picture = os.path.join(folder, "demo.png")
        little = ["--epochs=1", "--width=0.2", "--examples=100", "--steps=2", "--epsilons=0.4"]
        table = self.assert_succeeds(run("demo.py", *little, f"--picture={picture}", f"--models={folder}"))
        self.assertRegex(table, r"\| plain \| 0\.\d+ \| 0\.\d+ \|")
        self.assertGreater(os.path.getsize(picture), 10_000)

        model, gallery = os.path.join(folder, "plain.keras"), os.path.join(folder, "gallery.png")
        draw = ["gallery.py", f"--model={model}", f"--picture={gallery}", "--epsilon=1", "--steps=2", "--json"]
        drawn = json.loads(
            self.assert_succeeds(run(*draw, "--attacks=FlowFrankWolfe", "--attacks=RotationTranslation"))
        )
        self.assertTrue(drawn["success"]["FlowFrankWolfe"])
        self.assertGreater(os.path.getsize(gallery), 10_000)
        draw = ["figures.py", f"--models={folder}", f"--output={folder}", "--examples=8", "--json"]
        for figure in json.loads(self.assert_succeeds(run(*draw)))["figures"]:
            self.assertGreater(os.path.getsize(figure), 10_000)

    def test_proofs(self):
        folder = self.get_temp_dir()
        clean = np.arange(10) < 1
        record = records.record(np.arange(10) <= 2, clean_success=clean)
        proven = np.arange(10) > 5
        for name, certified in (("without", {}), ("plain", {0.2: proven}), ("more", {0.1: proven, 0.2: proven})):
            report = RobustnessReport.from_records({}, {}, {Run("FlowPGD", 0.2): record}, certified)
            with open(os.path.join(folder, f"{name}.json"), "w", encoding="utf-8") as file:
                file.write(report.to_json())
        picture = f"--picture={folder}/proofs.png"
        table = self.assert_succeeds(run("proofs.py", f"--reports={folder}/plain.json", picture))
        self.assertIn("| plain | 0.900 | 0.400–0.700 |", table)
        self.assertGreater(os.path.getsize(os.path.join(folder, "proofs.png")), 10_000)
        _, _, errors = run("proofs.py", f"--reports={folder}/without.json", picture)
        self.assertIn("Expected a report of an evaluation with --certify", errors)
        _, _, errors = run("proofs.py", f"--reports={folder}/plain.json", f"--reports={folder}/more.json", picture)
        self.assertIn("Expected reports of the same radii. Received {'plain': [0.2], 'more': [0.1, 0.2]}", errors)

    def test_bad_flags(self):
        for arguments, code, message in (
            (["reproduce.py", "--output=a", "--shard=5/4"], 2, "Expected a part such as 2/4"),
            (
                ["evaluate_on_cluster.py", "--model=a.keras", "--output=a", "--shard=1/2"],
                1,
                "neither --merge nor --shard|No module named 'distributed'",
            ),
            (["evaluate.py", "--model=missing.keras"], 1, "missing.keras, which does not exist"),
        ):
            ended_with, _, errors = run(*arguments)
            self.assertEqual(ended_with, code)
            self.assertRegex(errors, message)

    def test_in_a_process_of_its_own(self):
        command = [sys.executable, str(EXAMPLES / "reproduce.py"), "--output=a", "--cell=digits-plain"]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(process.returncode, 1)
        self.assertIn("Expected `--cell` to be one of", process.stderr)

    def test_scripts_of_commands(self):
        for name in ("train", "evaluate", "attack", "export"):
            code, text, _ = command_line.run(f"examples/{name}.py", "--help")
            self.assertEqual(code, 0)
            self.assertIn(f"keras-flowreg {name} ", text)


if __name__ == "__main__":
    tf.test.main()

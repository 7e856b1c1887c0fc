"""Tests that run the example scripts as a user does, with little work."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import tensorflow as tf

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


def run(script, *arguments):
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class ScriptsTest(tf.test.TestCase):
    RESULTS = ("digits-small_cnn-plain-seed0.json", "digits-small_cnn-flow_gradient-weight=5-seed0.json")

    def assert_succeeds(self, process):
        self.assertEqual(process.returncode, 0, process.stderr[-2000:])
        return process.stdout

    def test_train_and_evaluate(self):
        folder = self.get_temp_dir()
        model, logs = os.path.join(folder, "model.keras"), os.path.join(folder, "logs")
        train = ["train.py", "--epochs=2", "--train_size=600", "--width=0.2", "--validation_size=100"]
        train += [
            "--method=flow_gradient+deformation_training",
            "--attack_steps=2",
            "--clean_fraction=0.5",
            "--weight=5",
        ]
        train += ["--activation=swish"]
        self.assertIn("Saved", self.assert_succeeds(run(*train, f"--output={model}", f"--logs={logs}")))
        with zipfile.ZipFile(model) as archive:
            self.assertRegex(archive.read("config.json").decode(), '"activation": "(swish|silu)"')
        with open(os.path.join(logs, "history.csv"), newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertLen(rows, 2)
        self.assertContainsSubset(["gradient_penalty", "val_flow_gradient_norm", "val_accuracy"], rows[0])

        report = os.path.join(folder, "report")
        evaluate = ["evaluate.py", f"--model={model}", "--epsilons=0.5,0.2", "--examples=100", "--steps=3"]
        attacks = ["--attacks=FlowPGD", "--attacks=RotationTranslation"]
        table = self.assert_succeeds(run(*evaluate, *attacks, "--nocheck", f"--output={report}"))
        self.assertRegex(table, r"\| FlowPGD \| 0.2 \| 0\.\d+ \|")
        with open(f"{report}.json") as file:
            content = json.load(file)
        worst = [entry["accuracy"]["value"] for entry in content["worst_case"]]
        self.assertEqual([entry["epsilon"] for entry in content["worst_case"]], [0.2, 0.5])
        self.assertGreaterEqual(content["clean_accuracy"]["value"], worst[0])
        self.assertGreaterEqual(worst[0], worst[1])
        self.assertGreater(content["clean_accuracy"]["value"], 0.3)
        self.assertGreater(os.path.getsize(f"{report}.png"), 10_000)

        # What is exported has the same weights, and gives the same numbers.
        saved = os.path.join(folder, "saved")
        export = ["export.py", f"--model={model}", f"--output={saved}", f"--report={report}.json", "--recipe=epochs=2"]
        self.assert_succeeds(run(*export))
        with open(os.path.join(saved, "model_card.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["robustness"]["clean_accuracy"], content["clean_accuracy"])
        self.assertIn("overwrite=True", run(*export).stderr)
        again = self.assert_succeeds(
            run("evaluate.py", f"--model={saved}", *evaluate[2:], "--attacks=FlowPGD", "--nocheck")
        )
        line = next(line for line in table.splitlines() if line.startswith("| FlowPGD | 0.5"))
        self.assertIn(line.split(" | ")[2], again)

        gallery = os.path.join(folder, "gallery.png")
        self.assert_succeeds(run("attack.py", f"--model={model}", "--rows=2", f"--picture={gallery}"))
        self.assertGreater(os.path.getsize(gallery), 10_000)
        image = os.path.join(folder, "digit.png")
        tf.io.write_file(image, tf.io.encode_png(tf.cast(tf.random.uniform([28, 28, 1], 0, 255), tf.uint8)))
        self.assert_succeeds(run("attack.py", f"--model={model}", f"--image={image}", f"--picture={gallery}"))

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

    def test_demo_writes_its_picture(self):
        picture = os.path.join(self.get_temp_dir(), "demo.png")
        little = ["--epochs=1", "--width=0.2", "--examples=100", "--steps=2", "--epsilons=0.4"]
        table = self.assert_succeeds(run("demo.py", *little, f"--picture={picture}"))
        self.assertRegex(table, r"\| plain \| 0\.\d+ \| 0\.\d+ \|")
        self.assertGreater(os.path.getsize(picture), 10_000)

    def test_bad_flags(self):
        for arguments, message in (
            (["train.py", "--dataset=imagenet", "--output=a.keras"], "digits|mnist"),
            (["train.py", "--output=model.h5"], "ends in .keras"),
            (["train.py", "--method=magic", "--output=a.keras"], "plain|flow_gradient"),
            (["export.py", "--model=missing.keras", "--output=a"], "missing.keras, which does not exist"),
            (["export.py", "--model=a.keras", "--output=a", "--recipe=epochs"], "Expected name=value"),
            (["reproduce.py", "--output=a", "--shard=5/4"], "Expected a part such as 2/4"),
            (["evaluate.py", "--model=missing.keras"], "missing.keras, which does not exist"),
            (["evaluate.py", "--model=a.keras", "--epsilons=-1"], "Expected numbers of pixels"),
        ):
            process = run(*arguments)
            self.assertNotEqual(process.returncode, 0)
            self.assertIn(message, process.stdout + process.stderr)


if __name__ == "__main__":
    tf.test.main()

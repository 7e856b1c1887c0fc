"""Tests of the commands, as a user runs them, with little work."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from unittest import mock

import keras
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import __main__ as entry_point
from keras_flowreg.certification.certify import Certification
from keras_flowreg.commands import outputs, progress
from tests import command_line, testing


def run(*arguments):
    """The exit code of a command, and what it prints to both outputs."""
    return command_line.run("keras_flowreg/__main__.py", *arguments)


class CommandsTest(tf.test.TestCase):
    def assert_succeeds(self, *arguments):
        code, output, errors = run(*arguments)
        self.assertEqual(code, 0, errors)
        return output

    def test_certified_training(self):
        model = os.path.join(self.get_temp_dir(), "certified.keras")
        train = ["train", "--method=certified_training", "--architecture=strided_cnn", "--width=0.2", "--epochs=1"]
        self.assert_succeeds(
            *train, "--warmup_weight=0.5", "--train_size=200", "--validation_size=100", f"--output={model}"
        )
        evaluate = ["evaluate", "--certify", "--nocheck", "--attacks=RandomFlow", "--epsilons=0.05", "--examples=20"]
        table = self.assert_succeeds(*evaluate, f"--model={model}")
        self.assertRegex(table, r"\| \*\*certified\*\* \| 0.05 \| 0\.\d+ \|")

    def test_images_have_the_values_that_the_model_takes(self):
        folder, shape = self.get_temp_dir(), (28, 28, 1)
        plain, bytes_ = os.path.join(folder, "plain.keras"), os.path.join(folder, "bytes.keras")
        keras.utils.set_random_seed(0)
        layers = [
            keras.layers.Conv2D(4, 5, strides=4, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
        classifier = keras.Sequential([keras.Input(shape), *layers])
        classifier.save(plain)
        softmax = keras.layers.Softmax()
        of_bytes = keras.Sequential([keras.Input(shape), keras.layers.Rescaling(1 / 255), classifier, softmax])
        of_bytes.compile(loss="categorical_crossentropy")  # The data set's labels are class indices.
        of_bytes.save(bytes_)
        exported = os.path.join(folder, "exported")
        self.assert_succeeds("export", f"--model={bytes_}", f"--output={exported}", "--value_range=0,255")

        def results(*options):
            evaluate = ["evaluate", "--attacks=FlowFGSM", "--epsilons=0.3", "--examples=100", "--nocheck", "--json"]
            attack = ["attack", "--attack=FlowFGSM", "--epsilon=0.3", "--json", f"--picture={folder}/picture.png"]
            report, attacked = (json.loads(self.assert_succeeds(*each, *options)) for each in (evaluate, attack))
            return (
                report["correct"],
                report["runs"][0]["robust"],
                attacked["answers_after"],
                attacked["confidences_after"],
            )

        expected = results(f"--model={plain}")
        for options in ([f"--model={bytes_}", "--value_range=0,255"], [f"--model={exported}"]):
            *answers, confidences = results(*options)
            self.assertEqual(answers, list(expected[:-1]))
            self.assertAllClose(confidences, expected[-1], atol=1e-4)
        certify = ["certify", "--epsilons=0.01", "--examples=50", "--method=ibp", "--json"]
        (of_plain,), (of_bytes,) = (
            json.loads(self.assert_succeeds(*certify, *options))["radii"]
            for options in ([f"--model={plain}"], [f"--model={bytes_}", "--value_range=0,255"])
        )
        self.assertEqual(of_plain["certified"], of_bytes["certified"])
        for wrong in ("0", "255,0", "0,inf", "a,b"):
            code, _, errors = run(*certify, f"--model={plain}", f"--value_range={wrong}")
            self.assertEqual(code, 2)
            self.assertIn("Expected two numbers, the least and the greatest: 0,255", errors.splitlines()[-1])

    def test_what_is_trained_is_kept_until_it_is_saved(self):
        folder = self.get_temp_dir()
        model, logs = os.path.join(folder, "kept.keras"), os.path.join(folder, "kept")
        train = ["train", "--method=plain", "--epochs=2", "--train_size=200", "--width=0.2", "--validation_size=100"]
        train += [f"--output={model}", f"--logs={logs}"]
        with mock.patch.object(outputs, "save_model", side_effect=OSError("Expected a disk with room.")):
            code, _, errors = run(*train)
        self.assertEqual(code, 1, errors)
        with mock.patch.object(keras.callbacks.History, "on_epoch_end", side_effect=AssertionError("All is trained.")):
            self.assert_succeeds(*train)
        for _ in range(2):  # A training that is done is begun anew.
            with open(os.path.join(logs, "history.csv"), newline="") as file:
                self.assertEqual([row["epoch"] for row in csv.DictReader(file)], ["0", "1"])
            self.assert_succeeds(*train)

    def test_a_wrong_option_claims_no_folder(self):
        logs = os.path.join(self.get_temp_dir(), "claimed")
        train = ["train", "--method=certified_training", f"--output={logs}.keras", f"--logs={logs}", "--box_part=0"]
        code, _, errors = run(*train)
        self.assertEqual(code, 1)
        self.assertIn("box_part", errors)
        self.assertFalse(os.path.exists(logs))

    def test_a_folder_with_hidden_files_is_empty(self):
        folder = os.path.join(self.get_temp_dir(), "hidden")
        os.makedirs(os.path.join(folder, ".settings.json.writing-x"))
        with outputs.claimed_folder(folder, {"seed": 1}, "logs"):
            pass
        self.assertEqual(outputs.read_json(os.path.join(folder, outputs.SETTINGS)), {"seed": 1})

    def test_a_model_of_another_program_is_left_alone(self):
        path = os.path.join(self.get_temp_dir(), "theirs.keras")
        testing.network().save(path)
        code, _, errors = run("train", f"--output={path}")
        self.assertEqual(code, 1)
        self.assertIn("to be new, or a model of ours", errors)

    def test_a_radius_beyond_the_images_is_told_before_any_proof(self):
        path = os.path.join(self.get_temp_dir(), "small.keras")
        layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        keras.Sequential(layers).save(path)
        with mock.patch.object(Certification, "__call__", side_effect=AssertionError("A proof.")):
            code, _, errors = run("certify", f"--model={path}", "--epsilons=0.1,40", "--examples=10")
        self.assertEqual(code, 1)
        self.assertIn("at most 28", errors)

    def test_a_report_of_two_shards(self):
        folder = self.get_temp_dir()
        model = os.path.join(folder, "small.keras")
        keras.utils.set_random_seed(0)
        layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        keras.Sequential(layers).save(model)
        evaluate = ["evaluate", f"--model={model}", "--attacks=RandomFlow", "--epsilons=1", "--examples=50"]
        evaluate += ["--batch_size=10", "--nocheck", "--json"]
        parts = [os.path.join(folder, part) for part in ("first", "second")]
        for number, part in enumerate(parts, 1):
            words = self.assert_succeeds(*evaluate, f"--shard={number}/2", f"--output={part}")
            self.assertEqual(json.loads(words)["examples"], {1: 30, 2: 20}[number])
        merge = [f"--merge={part}.jsonl" for part in parts]
        code, _, errors = run(*evaluate, *merge)
        self.assertEqual(code, 1)
        self.assertIn("Expected --output, for what is merged", errors)
        whole = json.loads(self.assert_succeeds(*evaluate))
        with mock.patch.object(fr.attacks.RandomFlow, "search", side_effect=AssertionError("All is attacked.")):
            merged = json.loads(self.assert_succeeds(*evaluate, *merge, f"--output={folder}/whole"))
        for report in (whole, merged):
            self.assertEqual(report["examples"], 50)
        self.assertEqual(merged["clean_accuracy"], whole["clean_accuracy"])
        self.assertEqual(merged["worst_case"], whole["worst_case"])

    def test_from_training_to_export(self):
        folder = self.get_temp_dir()
        model, logs = os.path.join(folder, "model.keras"), os.path.join(folder, "logs")
        train = ["train", "--epochs=2", "--train_size=600", "--width=0.2", "--validation_size=100", "--weight=5"]
        train += ["--method=flow_gradient+deformation_training", "--attack_steps=2", "--clean_fraction=0.5"]
        train += ["--activation=swish", f"--output={model}", f"--logs={logs}", "--pictures"]
        words = self.assert_succeeds(*train)
        self.assertEndsWith(words, f"Saved {model}\n")
        self.assertIn("20/20", words)  # One bar over two epochs of ten steps.
        with zipfile.ZipFile(model) as archive:
            self.assertRegex(archive.read("config.json").decode(), '"activation": "(swish|silu)"')
        with open(os.path.join(logs, "history.csv"), newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertLen(rows, 2)
        self.assertNotEmpty(os.listdir(os.path.join(logs, "attack")))
        self.assertNotIn("backup", os.listdir(logs))
        self.assertContainsSubset(["gradient_penalty", "val_flow_gradient_norm", "val_accuracy"], rows[0])

        report = os.path.join(folder, "report")
        evaluate = ["evaluate", "--epsilons=0.5,0.2", "--examples=100", "--steps=3", "--nocheck"]
        attacks = ["--attacks=FlowPGD", "--attacks=RotationTranslation"]
        table = self.assert_succeeds(*evaluate, *attacks, f"--model={model}", f"--output={report}")
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
        export = ["export", f"--model={model}", f"--output={saved}", f"--report={report}.json", "--recipe=epochs=2"]
        self.assertEqual(json.loads(self.assert_succeeds(*export, "--json")), {"output": saved})
        with open(os.path.join(saved, "model_card.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["robustness"]["clean_accuracy"], content["clean_accuracy"])
        code, _, errors = run(*export)
        self.assertEqual(code, 1)
        self.assertIn("overwrite=True", errors.splitlines()[-1])
        again = json.loads(self.assert_succeeds(*evaluate, "--attacks=FlowPGD", f"--model={saved}", "--json"))
        measured = [part for part in content["runs"] if part["attack"] == "FlowPGD"]
        for ours, theirs in zip(again["runs"], measured):
            self.assertEqual(ours["accuracy"], theirs["accuracy"])

        certify = [
            "certify",
            f"--model={model}",
            "--epsilons=0.01,0",
            "--examples=50",
            "--batch_size=30",
            "--method=ibp",
        ]
        nothing, little = json.loads(self.assert_succeeds(*certify, "--json"))["radii"]
        self.assertEqual((nothing["epsilon"], nothing["examples"], little["examples"]), (0, 50, 50))
        self.assertGreater(nothing["certified"], 15)  # Those that it classifies rightly.
        self.assertLessEqual(little["certified"], nothing["certified"])

        gallery = os.path.join(folder, "gallery.png")
        attack = ["attack", f"--model={model}", f"--picture={gallery}", "--json"]
        result = json.loads(self.assert_succeeds(*attack, "--rows=2"))
        self.assertEqual(result["labels"], result["answers_before"])
        changed = [before != after for before, after in zip(result["answers_before"], result["answers_after"])]
        self.assertEqual(result["success"], changed)
        self.assertGreater(os.path.getsize(gallery), 10_000)
        image = os.path.join(folder, "digit.png")
        tf.io.write_file(image, tf.io.encode_png(tf.cast(tf.random.uniform([28, 28, 1], 0, 255), tf.uint8)))
        self.assertLen(json.loads(self.assert_succeeds(*attack, f"--image={image}"))["labels"], 1)


class CommandLineTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (["nothing"], "Expected a command: .* Received nothing"),
        ([], "Expected a command: .* Received none"),
        (["train", "--dataset=imagenet", "--output=a.keras"], "--dataset.*digits|mnist"),
        (["train", "--output=model.h5"], "--output.*ends in .keras"),
        (["train", "--method=magic", "--output=a.keras"], "--method.*plain|flow_gradient"),
        (["train", "--output=a.keras", "more"], "Expected flags alone. Received more"),
        (["export", "--model=a.keras", "--output=a", "--recipe=epochs"], "Expected name=value"),
        (["evaluate", "--model=a.keras", "--epsilons=-1"], "--epsilons.*Expected numbers of pixels"),
        (["certify", "--model=a.keras", "--budget=0"], "--budget"),
        (["certify", "--model=a.keras", "--epsilons="], "--epsilons.*Expected numbers of pixels"),
        (["evaluate"], "--model.*keras-flowreg evaluate --help"),
    )
    def test_a_wrong_command_line_is_one_line_and_code_2(self, arguments, message):
        code, output, errors = run(*arguments)
        self.assertEqual((code, output), (2, ""))
        self.assertRegex(errors, message)
        self.assertLen(errors.splitlines(), 1)

    def test_what_cannot_be_done_is_one_line_and_code_1(self):
        code, output, errors = run("evaluate", "--model=missing.keras")
        self.assertEqual((code, output), (1, ""))
        self.assertRegex(errors, "^Expected .* Received missing.keras, which does not exist.\n$")

    def test_debug_shows_where(self):
        with self.assertRaisesRegex(FileNotFoundError, "missing.keras"):
            run("evaluate", "--model=missing.keras", "--debug")

    def test_an_interrupt_is_code_130(self):
        with mock.patch("keras_flowreg.commands.models.load", side_effect=KeyboardInterrupt):
            self.assertEqual(run("evaluate", "--model=a.keras"), (130, "", "Interrupted.\n"))

    def test_help(self):
        code, output, _ = run("--help")
        self.assertEqual(code, 0)
        for name, command in entry_point.COMMANDS.items():
            self.assertIn(f"{name:10}{command.__doc__.splitlines()[0]}", output)
            code, flags, _ = run(name, "--help")
            self.assertEqual(code, 0)
            self.assertStartsWith(flags, f"keras-flowreg {name}: {command.__doc__.splitlines()[0]}")
            self.assertRegex(flags, "--model: |--output: ")
            self.assertIn("--[no]json", flags)
        self.assertStartsWith(run("--version")[1], f"keras_flowreg {fr.__version__}, tensorflow ")

    def test_as_a_process(self):
        command = [sys.executable, "-m", "keras_flowreg", "evaluate", "--model=missing.keras"]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((process.returncode, process.stdout), (1, ""))
        self.assertIn("missing.keras, which does not exist", process.stderr.splitlines()[-1])


class TrainingProgressTest(tf.test.TestCase):
    def test_the_steps_of_all_epochs_that_are_left(self):
        images, labels = testing.data(8)
        model = testing.network()
        model.compile("sgd", testing.cross_entropy(), metrics=["accuracy"])
        with mock.patch.object(keras.utils, "Progbar") as bars:
            model.fit(
                *(images, labels),
                batch_size=4,
                initial_epoch=1,
                epochs=3,
                verbose=0,
                validation_data=(images, labels),
                callbacks=[progress.TrainingProgress()],
            )
        bars.assert_called_once()
        self.assertEqual(bars.call_args.args, (4,))
        updates = bars.return_value.update.call_args_list
        self.assertEqual([update.args[0] for update in updates], [1, 2, 2, 3, 4, 4])
        self.assertEqual([update.kwargs["finalize"] for update in updates], [False] * 5 + [True])
        self.assertContainsSubset({"loss", "val_accuracy"}, dict(updates[-1].args[1]))


if __name__ == "__main__":
    tf.test.main()

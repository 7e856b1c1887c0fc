"""Tests of the robustness report, where the outcome is known."""

import os
import signal
import subprocess
import sys
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.evaluation import Run, journal, work
from tests import testing
from tests.evaluation import reports

A_KILLED_RUN = """
import os, signal, sys
from keras_flowreg.evaluation import journal
from tests.evaluation import evaluate_test

add = journal.Journal.add

def add_and_die(self, run, number, data, record):
    add(self, run, number, data, record)
    if number == 1:
        with open(self._path, "a") as file:
            file.write('{"run": ["cut o')
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.add = add_and_die
evaluate_test.evaluated(sys.argv[1])
"""


@keras.saving.register_keras_serializable(package="evaluate_test")
class Rounded(keras.layers.Layer):
    """Has no gradient."""

    def call(self, inputs):
        return tf.round(inputs * 50) / 50


def data():
    images, labels = testing.data(40)
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)


def model(*before, loss=None):
    network = keras.Sequential([keras.layers.Input(testing.SHAPE), *before, testing.network()])
    network.compile("sgd", loss or testing.cross_entropy())
    return network


def evaluated(path=None):
    attacks = [fr.attacks.FlowPGD(0.1, steps=3), fr.attacks.RandomFlow(0.1, draws=2)]
    return fr.evaluate_robustness(model(), data(), attacks, [0.3, 0.6], resume_from=path, check=False, verbose=0)


class EvaluateTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.get_temp_dir(), "partial.jsonl")

    def test_agrees_with_the_attacks(self):
        network = model()
        attacks = {"ours": fr.attacks.FlowPGD(9.0, steps=3), "grid": fr.attacks.RotationTranslation(angles=2)}
        report = fr.evaluate_robustness(network, data(), attacks, [0.6, 0.3], examples=30, check=False, verbose=0)
        images, labels = testing.data(40)
        correct = np.argmax(network(images[:30]), axis=1) == labels[:30]
        self.assertAllEqual(report.correct, correct)
        self.assertEqual(list(report.robust), [Run("ours", 0.3), Run("ours", 0.6), Run("grid", None)])
        for epsilon in (0.3, 0.6):
            attack = attacks["ours"].replace(epsilon=epsilon)
            fooled = np.concatenate(
                [
                    attack.run(images[start:end], labels[start:end], model=network).success
                    for start, end in ((0, 16), (16, 30))
                ]
            )
            self.assertAllEqual(report.robust[Run("ours", epsilon)], ~fooled)
        worst = report.worst_case()
        self.assertAllEqual(worst[0.3], report.robust[Run("ours", 0.3)])
        self.assertAllEqual(worst[0.6], report.robust[Run("ours", 0.3)] & report.robust[Run("ours", 0.6)])
        self.assertEqual(report.robust_accuracy("grid").value, np.mean(report.robust[Run("grid", None)]))
        self.assertAllLessEqual(report.measures[Run("ours", 0.3)]["largest"], 0.3 * 2**0.5 + 1e-5)

    def test_settings(self):
        network = model()
        attacks = [fr.attacks.FlowPGD(0.1, steps=3), fr.attacks.FlowPGD(0.1, steps=3, loss="margin", norm="pixel_l2")]
        settings = fr.evaluate_robustness(network, data(), attacks, [0.3], check=False, verbose=0).settings
        first, second = settings["attacks"]
        self.assertEqual((first["attack"], first["class"], first["epsilon"]), ("FlowPGD 1", "FlowPGD", 0.3))
        self.assertEqual((second["attack"], second["steps"], second["norm"]), ("FlowPGD 2", 3, "pixel_l2"))
        self.assertEqual(
            [settings["loss"], first["loss"], second["loss"]], [testing.cross_entropy().name] * 2 + ["margin"]
        )
        self.assertEqual(settings["weights"], journal.digest(network.get_weights()))

    def test_one_attack_for_two_models(self):
        attack, (images, labels) = fr.attacks.FlowPGD(0.4, steps=3), testing.data(40)
        for network in (model(), model(keras.layers.Rescaling(-1.0))):
            report = fr.evaluate_robustness(network, (images, labels), attack, [0.4], check=False, verbose=0)
            fooled = attack.run(images, labels, model=network).success
            self.assertAllEqual(report.robust[Run("FlowPGD", 0.4)], ~fooled.numpy())

    def test_the_loss_of_the_call_is_for_attacks_without_one(self):
        images, labels = testing.data(8)
        attacks = {"none": fr.attacks.FlowFGSM(0.4), "own": fr.attacks.FlowFGSM(0.4, loss="margin")}
        report = fr.evaluate_robustness(
            testing.network(), (images, labels), attacks, [0.1], loss=testing.cross_entropy(), check=False, verbose=0
        )
        self.assertEqual(
            [entry["loss"] for entry in report.settings["attacks"]], [testing.cross_entropy().name, "margin"]
        )
        self.assertGreater(report.measures[Run("none", 0.1)]["loss"], 0)  # a cross-entropy
        with self.assertRaisesRegex(ValueError, "Expected a loss"):
            fr.evaluate_robustness(testing.network(), data())

    def test_the_loss_is_the_one_that_is_compiled_now(self):
        network, attack = model(), fr.attacks.FlowFGSM(0.1)
        for loss in (testing.cross_entropy(), fr.ops.MarginLoss()):
            network.compile("sgd", loss)
            report = fr.evaluate_robustness(network, data(), attack, [0.0], check=False, verbose=0)
            self.assertEqual(report.settings["attacks"][0]["loss"], loss.name)
        # Those that are correct have a negative margin, and a positive cross-entropy.
        self.assertLess(report.measures[Run("FlowFGSM", 0.0)]["loss"], 0)

    def test_a_killed_evaluation_goes_on(self):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.run([sys.executable, "-c", A_KILLED_RUN, self.path], env=environment, check=False)
        self.assertEqual(process.returncode, -signal.SIGKILL)
        with open(self.path) as file:
            finished = file.read().count("\n")
        self.assertEqual(finished, 1 + 4 + 1)
        resumed = evaluated(self.path)
        with open(self.path) as file:
            self.assertEqual(file.read().count("\n"), 1 + 3 * 4)
        reports.assert_same(resumed, evaluated())
        reports.assert_same(evaluated(self.path), resumed)

    def test_partial_results_of_something_else(self):
        evaluated(self.path)
        with self.assertRaisesRegex(ValueError, "Expected .*partial.jsonl to hold partial results of this evaluation"):
            fr.evaluate_robustness(model(), data(), fr.attacks.FlowPGD(0.1, steps=4), resume_from=self.path)
        with mock.patch.object(fr, "__version__", "another"):
            with self.assertRaisesRegex(ValueError, "of this evaluation"):
                evaluated(self.path)

    def test_a_record_of_another_length(self):
        arguments = model(), data(), fr.attacks.RandomFlow(0.1, draws=1), [0.1]
        options = {"resume_from": self.path, "check": False, "verbose": 0}
        fr.evaluate_robustness(*arguments, **options)
        with open(self.path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        # The second batch's record in the place of the last one's, which has half of its examples.
        second, last = (next(line for line in lines if f'"batch": {number}' in line) for number in (1, 2))
        forged = last.split('"record":')[0] + '"record":' + second.split('"record":')[1]
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("\n".join([lines[0], forged]) + "\n")
        with self.assertRaisesRegex(ValueError, "Expected a record of 8 examples, for batch 2.* Received one of 16"):
            fr.evaluate_robustness(*arguments, **options)

    def test_one_progress_bar_over_all_attacks(self):
        with mock.patch.object(keras.utils, "Progbar") as progress:
            report = evaluated()
        self.assertEqual(progress.call_args.args, (3 * 4,))
        self.assertEqual(progress.return_value.add.call_count, 3 * 4)
        ((name, left),) = progress.return_value.add.call_args.args[1]
        self.assertEqual(name, "RandomFlow 0.6")
        self.assertAllClose(left, report.robust_accuracy("RandomFlow", 0.6).value)

    def test_bad_input(self):
        network = model()
        attack = fr.attacks.FlowPGD(0.1, steps=3)
        for arguments, error, message in (
            ((data(), ["FlowPGD"]), TypeError, "Expected every attack.*'FlowPGD'"),
            ((data(), []), ValueError, "Expected at least one attack"),
            ((data(), attack, [-1]), ValueError, "Expected `epsilons`.*-1"),
            ((data(), attack, []), ValueError, "Expected at least one of `epsilons`"),
            ((data().take(0), attack), ValueError, "Expected `dataset` to hold at least one batch"),
            ((data().map(lambda images, labels: images), attack), ValueError, "to hold batches of"),
            ((data().map(lambda images, labels: (9 * images, labels)), attack), ValueError, "value_range"),
            ((data(), attack.replace(targeted=True)), ValueError, "Expected attacks that are not targeted.*FlowPGD"),
        ):
            with self.assertRaisesRegex(error, message):
                fr.evaluate_robustness(network, *arguments, verbose=0)


class WithoutGradientTest(tf.test.TestCase):
    def test_a_binary_model_is_told_what_to_do(self):
        inputs = keras.Input(testing.SHAPE)
        binary = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(keras.layers.Flatten()(inputs)))
        binary.compile(loss="binary_crossentropy")
        images, labels = testing.data(8)
        for attack in (fr.attacks.FlowFGSM(0.4), fr.attacks.AutoDeform(0.4)):
            for certify in (False, True):
                with self.assertRaisesRegex(ValueError, "at least two classes.*two_class_classifier"):
                    fr.evaluate_robustness(binary, (images, labels % 2), attack, [0.4], certify=certify)

    def test_every_batch_is_looked_at_before_the_first_attack(self):
        images, labels = testing.data(40)
        for change, message in (
            (lambda images, labels: images.__setitem__(39, np.nan), "Expected finite images"),
            (lambda images, labels: images.__setitem__(39, 2.0), "from 0.0 to 1.0"),
            (lambda images, labels: labels.__setitem__(39, 7), "Expected labels from 0 to 3"),
        ):
            wrong = images.copy(), labels.copy()
            change(*wrong)
            dataset = tf.data.Dataset.from_tensor_slices(wrong).batch(16)
            with mock.patch.object(work.Work, "done", side_effect=AssertionError("An attack.")):
                with self.assertRaisesRegex(ValueError, message):
                    fr.evaluate_robustness(model(), dataset, fr.attacks.FlowFGSM(0.3), [0.3], check=False, verbose=0)

    def test_every_example_has_a_class(self):
        images, labels = testing.data(40)
        labels[20] = -1
        network = model(loss=testing.cross_entropy(ignore_class=-1))
        for batches in ((images, labels), iter([(images[:16], labels[:16]), (images[16:], labels[16:])])):
            with self.assertRaisesRegex(ValueError, "Expected labels from 0 to 3"):
                attack = fr.attacks.FlowFGSM(0.3)
                fr.evaluate_robustness(network, batches, attack, [0.3], examples=40, check=False, verbose=0)

    def test_radii_in_single_precision_are_found_by_their_digits(self):
        for radii in (np.array([0.1, 0.3], "float32"), [np.float16(0.1), tf.constant(0.3)]):
            report = fr.evaluate_robustness(model(), data(), fr.attacks.FlowFGSM(0.3), radii, check=False, verbose=0)
            self.assertEqual(
                report.robust_accuracy("FlowFGSM", 0.1).value, np.mean(report.robust[Run("FlowFGSM", 0.1)])
            )
            self.assertEqual(list(report.worst_case()), [0.1, 0.3])

    def test_attacks_have_the_reports_values(self):
        images, labels = testing.data(8)
        bytes_ = (255 * images).astype("uint8")
        of_bytes = model(keras.layers.Rescaling(1 / 255))
        attack = fr.attacks.FlowFGSM(0.4)
        with self.assertRaisesRegex(ValueError, r"from 0 to 255, as.*FlowFGSM with value_range=\(0.0, 1.0\)"):
            fr.evaluate_robustness(of_bytes, (bytes_, labels), attack, [0.4], value_range=(0, 255))
        attack = attack.replace(value_range=(0, 255))
        report = fr.evaluate_robustness(of_bytes, (bytes_, labels), attack, [0.4], value_range=(0, 255), verbose=0)
        result = attack.run(bytes_, labels, model=of_bytes)
        self.assertAllEqual(
            report.robust[Run("FlowFGSM", 0.4)], ~result.success.numpy() & ~result.clean_success.numpy()
        )

    def test_attacks_by_gradient_are_refused_before_any_work(self):
        attacks = [fr.attacks.RandomFlow(0.1), fr.attacks.FlowPGD(0.1), fr.attacks.FlowFGSM(0.1)]
        with mock.patch.object(work, "AttackRecord", side_effect=AssertionError("work")):
            with self.assertRaisesRegex(
                ValueError, "Expected attacks that need no gradient.*Received FlowPGD, FlowFGSM. Use"
            ):
                fr.evaluate_robustness(model(Rounded()), data(), attacks, verbose=0)

    def test_the_report_says_what_auto_deform_left_out(self):
        images, labels = testing.data(8)
        report = fr.evaluate_robustness(model(Rounded()), (images, labels), epsilons=[0.4], check=False, verbose=0)
        (finding,) = report.findings
        self.assertEqual(finding.check, "every attack runs in full")
        self.assertIn("AutoDeform has left out its members by gradient", finding.message)
        self.assertIn("Not to be trusted", report.to_markdown())
        # What is left still searches.
        self.assertGreater(report.measures[Run("AutoDeform", 0.4)]["queries"], 5)

    def test_others_are_as_they_are(self):
        report = fr.evaluate_robustness(
            model(Rounded()), data(), fr.attacks.FlowSquare(0.1, queries=5), [0.1], check=False, verbose=0
        )
        self.assertEmpty(report.findings)
        report = fr.evaluate_robustness(model(), data(), fr.attacks.FlowFGSM(0.1), [0.1], check=False, verbose=0)
        self.assertEmpty(report.findings)


if __name__ == "__main__":
    tf.test.main()

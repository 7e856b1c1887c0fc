"""Tests of the robustness report, where the outcome is known."""

import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.report import Run
from tests import testing

A_KILLED_RUN = """
import os, signal, sys
import keras
import keras_flowreg as fr
from keras_flowreg import journal
from tests import evaluation_test

add = journal.Journal.add

def add_and_die(self, run, number, data, record):
    add(self, run, number, data, record)
    if number == 1:
        with open(self._path, "a") as file:
            file.write('{"run": ["cut o')
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.add = add_and_die
evaluation_test.evaluate(sys.argv[1])
"""


def data():
    images, labels = testing.data(40)
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)


def model():
    network = testing.network()
    network.compile("sgd", testing.cross_entropy())
    return network


def evaluate(path):
    network = model()
    attacks = [fr.attacks.FlowPGD(network, 0.1, 3), fr.attacks.RandomFlow(network, 0.1, 2)]
    return fr.evaluate_robustness(network, data(), attacks, [0.3, 0.6], resume_from=path, check=False, verbose=0)


def without_times(report):
    for measures in report.measures.values():
        measures["seconds"] = 0.0
    return report.to_json()


class EvaluationTest(tf.test.TestCase):
    def test_agrees_with_the_attacks(self):
        network = model()
        attacks = {
            "ours": fr.attacks.FlowPGD(network, 9.0, 3),
            "grid": fr.attacks.RotationTranslation(network, angles=2),
        }
        report = fr.evaluate_robustness(network, data(), attacks, [0.6, 0.3], examples=30, check=False, verbose=0)
        images, labels = testing.data(40)
        correct = np.argmax(network(images[:30]), axis=1) == labels[:30]
        self.assertAllEqual(report.correct, correct)
        self.assertEqual(list(report.robust), [Run("ours", 0.3), Run("ours", 0.6), Run("grid", None)])
        for epsilon in (0.3, 0.6):
            broken = np.concatenate(
                [
                    attacks["ours"].at(epsilon).run(images[start:end], labels[start:end]).success
                    for start, end in ((0, 16), (16, 30))
                ]
            )
            self.assertAllEqual(report.robust[Run("ours", epsilon)], ~broken)
        worst = report.worst_case()
        self.assertAllEqual(worst[0.3], report.robust[Run("ours", 0.3)])
        self.assertAllEqual(worst[0.6], report.robust[Run("ours", 0.3)] & report.robust[Run("ours", 0.6)])
        self.assertEqual(report.robust_accuracy("grid").value, np.mean(report.robust[Run("grid", None)]))
        self.assertAllLessEqual(report.measures[Run("ours", 0.3)]["largest"], 0.3 * 2**0.5 + 1e-5)

    def test_forms(self):
        report = evaluate(None)
        content = json.loads(report.to_json())
        self.assertEqual(content["schema_version"], 1)
        self.assertEqual(content["versions"]["tensorflow"], tf.__version__)
        self.assertEqual(content["settings"]["attacks"][0]["steps"], 3)
        self.assertEqual(fr.RobustnessReport.from_json(report.to_json()).to_json(), report.to_json())
        with self.assertRaisesRegex(ValueError, "Expected a report of schema version 1. Received 7"):
            fr.RobustnessReport.from_json(json.dumps({**content, "schema_version": 7}))
        table = report.to_markdown()
        for run in report.robust:
            self.assertIn(f"| {run.attack} | {run.epsilon:g} | {report.robust_accuracy(*run).value:.3f} |", table)
        lines = report.plot().get_lines()
        self.assertAllClose(lines[0].get_ydata()[0], report.clean_accuracy.value)
        with self.assertRaisesRegex(ValueError, "Expected one of.*FlowPGD 0.3 px.*Received nothing"):
            report.robust_accuracy("nothing", 0.3)

    def test_interval(self):
        # Clopper-Pearson for 0 of n has the closed form 1 - (α/2)^(1/n).
        interval = fr.report.accuracy(np.zeros(50, bool))
        self.assertAllClose(list(interval), [0, 0, 1 - 0.025 ** (1 / 50)])

    def test_a_killed_evaluation_goes_on(self):
        path = os.path.join(self.get_temp_dir(), "partial.jsonl")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.run([sys.executable, "-c", A_KILLED_RUN, path], env=environment, check=False)
        self.assertEqual(process.returncode, -signal.SIGKILL)
        with open(path) as file:
            finished = file.read().count("\n")
        self.assertEqual(finished, 1 + 4 + 1)
        resumed = evaluate(path)
        with open(path) as file:
            self.assertEqual(file.read().count("\n"), 1 + 3 * 4)
        self.assertEqual(without_times(resumed), without_times(evaluate(None)))
        self.assertEqual(without_times(evaluate(path)), without_times(resumed))

    def test_partial_results_of_something_else(self):
        path = os.path.join(self.get_temp_dir(), "partial.jsonl")
        evaluate(path)
        network = model()
        attacks = [fr.attacks.FlowPGD(network, 0.1, 4)]
        with self.assertRaisesRegex(ValueError, "Expected .*partial.jsonl to hold partial results of this evaluation"):
            fr.evaluate_robustness(network, data(), attacks, resume_from=path)

    def test_bad_input(self):
        network = model()
        attack = fr.attacks.FlowPGD(network, 0.1, 3)
        for arguments, error, message in (
            ((data(), ["FlowPGD"]), TypeError, "Expected every attack.*'FlowPGD'"),
            ((data(), []), ValueError, "Expected at least one attack"),
            ((data(), attack, [-1]), ValueError, "Expected `epsilons`.*-1"),
            ((data(), attack, []), ValueError, "Expected at least one of `epsilons`"),
            ((data().take(0), attack), ValueError, "Expected a data set with at least one batch"),
            ((data().map(lambda images, labels: images), attack), ValueError, "Expected batches of"),
        ):
            with self.assertRaisesRegex(error, message):
                fr.evaluate_robustness(network, *arguments, verbose=0)
        with self.assertRaisesRegex(ValueError, "Expected a loss"):
            fr.evaluate_robustness(testing.network(), data())


class ChecksTest(tf.test.TestCase):
    def findings(self, network, attacks=None, **options):
        network.compile("sgd", options.pop("loss", testing.cross_entropy()))
        attacks = attacks or [fr.attacks.RandomFlow(network, 0.1, 1)]
        report = fr.evaluate_robustness(network, data().take(1), attacks, [0.1], verbose=0)
        return {finding.check for finding in report.findings}, report

    def network(self, *after):
        return keras.Sequential([testing.network(), *after])

    def test_an_honest_model_passes(self):
        images, labels = testing.data(128)
        network = testing.network()
        network.compile(keras.optimizers.Adam(0.02), testing.cross_entropy())
        network.fit(images, labels, epochs=15, verbose=0)
        found, report = self.findings(network)
        self.assertEmpty(found, report.to_markdown())
        self.assertTrue(report.trustworthy)

    def test_probabilities_taken_for_logits(self):
        found, report = self.findings(self.network(keras.layers.Softmax()))
        self.assertIn("outputs are logits", found)
        self.assertIn("Not to be trusted", report.to_markdown())

    def test_saturated_outputs_have_no_gradient(self):
        found, _ = self.findings(self.network(keras.layers.Rescaling(1e6)))
        self.assertContainsSubset(["outputs do not saturate", "gradient is not zero"], found)

    def test_random_model(self):
        class Noise(keras.layers.Layer):
            def call(self, inputs):
                return inputs + tf.random.normal(tf.shape(inputs))

        self.assertIn("model is not random", self.findings(self.network(Noise()))[0])

    def test_masked_gradients(self):
        class Rounded(keras.layers.Layer):
            def call(self, inputs):
                return tf.round(inputs * 50) / 50 + 0 * inputs

        found, _ = self.findings(keras.Sequential([Rounded(), testing.network()]))
        self.assertIn("gradient is not zero", found)

    def test_invariant_model(self):
        invariant = keras.Sequential([keras.layers.Rescaling(0.0), testing.network()])
        found, _ = self.findings(invariant)
        self.assertIn("gradient is not zero", found)


if __name__ == "__main__":
    tf.test.main()

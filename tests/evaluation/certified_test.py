"""Tests of reports with proofs: certified ≤ true ≤ attacked."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.evaluation import RobustnessReport, Run, evaluate
from keras_flowreg.evaluation.certified import contradictions
from tests import testing
from tests.evaluation.records import record

RADII = (0.001, 0.02)


def evaluated(network, labels, **options):
    network.compile(loss=testing.cross_entropy())
    attack, images = fr.attacks.FlowFrankWolfe(0.1, steps=3), testing.data(16)[0]
    return fr.evaluate_robustness(
        network, (images, labels), attack, RADII, certify=True, check=False, verbose=0, **options
    )


class CertifiedTest(tf.test.TestCase):
    def test_between_what_is_proven_and_what_is_attacked(self):
        images, network = testing.data(16)[0], testing.network()
        labels = np.argmax(network(images), axis=1)
        labels[0] = (labels[0] + 1) % testing.CLASSES
        report = evaluated(network, labels)
        self.assertEqual(tuple(report.certified), RADII)
        for epsilon, worst in report.worst_case().items():
            certified = report.certified[epsilon]
            self.assertFalse(np.any(certified & ~worst))
            self.assertAllEqual(certified, fr.certify(network, images, labels, epsilon).certified)
        self.assertLess(np.mean(certified), np.mean(report.certified[RADII[0]]))
        self.assertTrue(report.trustworthy)

    def test_a_proof_that_an_attack_refutes(self):
        attacks = {
            Run("FlowPGD", 0.2): fr.attacks.FlowPGD(0.2),
            Run("IntensityPGD", 0.2): fr.attacks.IntensityPGD(0.2),
            Run("grid", None): fr.attacks.RotationTranslation(),
        }
        records = {run: record([True, False, True], clean_success=np.zeros(3, bool)) for run in attacks}
        certified = {0.1: np.ones(3, bool), 0.2: np.array([True, True, False]), 0.4: np.array([False, True, False])}
        report = RobustnessReport.from_records({}, {}, records, certified)
        (finding,) = contradictions(report, attacks)
        self.assertEqual(finding.check, "no attack fools what is certified")
        self.assertIn("FlowPGD 0.2 px fools 1 of the examples that are certified at 0.2 px", finding.message)

    def test_a_network_without_bounds_is_refused_before_any_work(self):
        network = testing.network(keras.layers.LayerNormalization())
        with mock.patch.object(evaluate, "AttackRecord", side_effect=AssertionError("work")):
            with self.assertRaisesRegex(ValueError, "rule for bounds.*LayerNormalization"):
                evaluated(network, np.zeros(16, int))


if __name__ == "__main__":
    tf.test.main()

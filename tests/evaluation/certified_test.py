"""Tests of reports with proofs: certified ≤ true ≤ attacked."""

import functools
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.attacks import chunks
from keras_flowreg.evaluation import RobustnessReport, Run, certified, work
from keras_flowreg.evaluation.certified import contradictions
from keras_flowreg.evaluation.record import AttackRecord
from tests import testing
from tests.evaluation.records import record

RADII = (0.001, 0.02)
ASCENT = fr.attacks.FlowFrankWolfe(0.1, steps=3)


@functools.cache
def network():
    """One model for all tests: what is compiled for it is compiled once."""
    model = testing.network()
    model.compile(loss=testing.cross_entropy())
    return model


@functools.cache
def labels():
    """Those that the network predicts, but for the first one."""
    right = np.argmax(network()(testing.data(24)[0]), axis=1)
    return np.concatenate([[(right[0] + 1) % testing.CLASSES], right[1:]])


def evaluated(attacks=ASCENT, epsilons=RADII, **options):
    data = tf.data.Dataset.from_tensor_slices((testing.data(24)[0], labels())).batch(12)
    options = {"certify": True, "check": False, "verbose": 0, **options}
    return fr.evaluate_robustness(network(), data, attacks, epsilons, **options)


class CertifiedTest(tf.test.TestCase):
    def test_between_what_is_proven_and_what_is_attacked(self):
        report, attacked = evaluated(), evaluated(certify=False)
        self.assertEqual(tuple(report.certified), RADII)
        for epsilon, worst in report.worst_case().items():
            proven = report.certified[epsilon]
            self.assertFalse(np.any(proven & ~worst))
            self.assertAllEqual(proven, fr.certify(network(), testing.data(24)[0], labels(), epsilon).certified)
            self.assertAllEqual(worst, attacked.worst_case()[epsilon])
        self.assertLess(np.mean(proven), np.mean(report.certified[RADII[0]]))
        self.assertAllEqual(report.correct, attacked.correct)
        self.assertTrue(report.trustworthy)

    def test_attacks_leave_out_what_is_certified_but_for_a_draw(self):
        attacks = {
            "flow": ASCENT,
            "smooth": fr.attacks.FlowPGD(0.1, steps=1, control_points=3, start="zero"),
            "intensity": fr.attacks.IntensityPGD(0.1, steps=1),
            "grid": fr.attacks.RotationTranslation(angles=2, shifts=1),
        }
        with mock.patch.object(certified, "_ONE_IN", 4):
            report = evaluated(attacks)
        self.assertEqual({run.attack for run in report.attacked}, {"flow", "smooth"})
        for run, attacked in report.attacked.items():
            proven = report.certified[run.epsilon]
            self.assertTrue(np.all(attacked | proven))
            for batch in (slice(0, 12), slice(12, 24)):
                self.assertEqual(np.sum((attacked & proven)[batch]), np.ceil(np.sum(proven[batch]) / 4))
        self.assertEqual(report.settings["certify"]["attacked"], "one in 4 of each batch")

    def test_radii_that_are_no_pixels_prove_nothing(self):
        noise = fr.attacks.IntensityPGD(0.1, steps=1)
        report = evaluated(noise)
        self.assertEmpty(report.certified)
        self.assertEmpty(report.worst_case())
        self.assertEqual(
            tuple(evaluated({"flow": ASCENT, "noise": noise}, {"flow": [0.02], "noise": [0.1]}).certified), (0.02,)
        )

    def test_the_draw_is_the_seeds(self):
        proven = {0.4: np.ones(20, bool)}
        first, again, other, next_batch = (
            certified.Certifier(network(), [0.4], seed).attacked(ASCENT.replace(epsilon=0.4), proven, batch, 20)
            for seed, batch in ((-1, 0), (-1, 0), (1, 0), (-1, 1))
        )
        self.assertEqual([draw.sum() for draw in (first, other, next_batch)], [2, 2, 2])
        self.assertAllEqual(first, again)
        self.assertNotAllEqual(first, other)
        self.assertNotAllEqual(first, next_batch)

    def test_a_certified_example_that_breaks(self):
        all_of_them = mock.Mock(certified=np.ones(12, bool), seconds=0.0)
        with mock.patch.object(certified, "Certification", return_value=lambda *_, **__: all_of_them):
            report = evaluated(epsilons=[2.0])
        # One in each batch was drawn.
        self.assertEqual(report.attacked[Run("FlowFrankWolfe", 2.0)].sum(), 2)
        self.assertEqual(report.findings[-1].check, "no attack fools what is certified")
        self.assertFalse(report.trustworthy)

    def test_xla_is_given_few_sizes_of_batches(self):
        images, some_labels = testing.data(12)[0], labels()[:12]
        chosen = np.isin(np.arange(12), [1, 2, 5, 7, 11])
        for jit_compile, sizes in ((False, [5]), (True, [4, 4])):
            attack = fr.attacks.FlowFGSM(0.4, jit_compile=jit_compile)
            with (
                mock.patch.object(attack, "run", side_effect=attack.run) as run,
                mock.patch.object(chunks, "_CHUNK", 4),
            ):
                found = work.Work(network(), {}, None, None)._attack_some(
                    work.Batch(0, images, some_labels, ""), work.Search(attack, testing.cross_entropy()), chosen
                )
            self.assertEqual([len(call.args[0]) for call in run.call_args_list], sizes)
            record = AttackRecord.from_dict(found)
            self.assertAllEqual(record.attacked, chosen)
            alone = attack.run(images[chosen], some_labels[chosen], model=network(), loss=testing.cross_entropy())
            self.assertAllEqual(record.success[chosen], alone.success)
            self.assertAllClose(record.loss[chosen], alone.loss, rtol=1e-4)

    def test_a_proof_that_an_attack_refutes(self):
        attacks = {
            Run("FlowPGD", 0.2): fr.attacks.FlowPGD(0.2),
            Run("IntensityPGD", 0.2): fr.attacks.IntensityPGD(0.2),
            Run("grid", None): fr.attacks.RotationTranslation(),
        }
        records = {run: record([True, False, True], clean_success=np.zeros(3, bool)) for run in attacks}
        proven = {0.1: np.ones(3, bool), 0.2: np.array([True, True, False]), 0.4: np.array([False, True, False])}
        report = RobustnessReport.from_records({}, {}, records, proven)
        (finding,) = contradictions(report, attacks)
        self.assertEqual(finding.check, "no attack fools what is certified")
        self.assertIn("FlowPGD 0.2 px fools 1 of the examples that are certified at 0.2 px", finding.message)

    def test_a_network_without_bounds_is_refused_before_any_work(self):
        unknown = testing.network(keras.layers.Lambda(tf.sin))
        unknown.compile(loss=testing.cross_entropy())
        with mock.patch.object(work, "AttackRecord", side_effect=AssertionError("work")):
            with self.assertRaisesRegex(ValueError, "rule for bounds.*sin"):
                fr.evaluate_robustness(unknown, testing.data(4), ASCENT, certify=True)


if __name__ == "__main__":
    tf.test.main()

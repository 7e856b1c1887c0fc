"""Tests of training on several processes, which are real and really killed."""

import contextlib
import json
import os
import signal
import socket
import tempfile
import unittest

import keras
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg import compat
from keras_flowreg.commands import outputs
from tests import command_line

SCRIPT = "examples/train_distributed.py"
# Without random starts, which are each replica's own. The penalty rises to the end, and the last batch is smaller.
TRAINING = ["--epochs=4", "--train_size=240", "--validation_size=0", "--batch_size=32", "--width=0.1"]
TRAINING += ["--weight=5", "--random_start=0", "--warmup=1"]
PATIENCE_SECONDS = 120


def read_until(process, text):
    """What a process writes, up to a line with `text`."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"Expected a line with {text!r}. Received: {''.join(lines)}")


def workers_in(output):
    """The process ids of the workers that were started."""
    return [int(line.split()[-1]) for line in output.splitlines() if line.startswith("Started worker")]


def is_running(process_id):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, 0)
        return True
    return False


def cluster_of_two():
    """TF_CONFIG of each of two workers on this machine."""
    with socket.create_server(("localhost", 0)) as first, socket.create_server(("localhost", 0)) as second:
        workers = [f"localhost:{each.getsockname()[1]}" for each in (first, second)]
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    return [json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks]


class ScriptTest(tf.test.TestCase):
    def start(self, *arguments, **environment):
        return command_line.started(self, SCRIPT, *arguments, **environment)

    def assert_fails_before_workers_start(self, message, *arguments):
        code, output, errors = command_line.run(SCRIPT, f"--output={self.get_temp_dir()}/model.keras", *arguments)
        self.assertNotEqual(code, 0)
        self.assertIn(message, errors)
        self.assertEmpty(workers_in(output))


@unittest.skipIf(compat.KERAS_3, "Model.fit of Keras 3 does not train on several workers (keras-team/keras#20585)")
class WorkersTest(ScriptTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.alone = os.path.join(folder.name, "alone.keras")
        code, _, errors = command_line.run("examples/train.py", *TRAINING, f"--output={cls.alone}")
        assert code == 0, errors

    def assert_trained_as_alone(self, path):
        """Checks that the weights are those of one device that was never disturbed."""
        model, alone = (keras.models.load_model(each) for each in (path, self.alone))
        self.assertIsInstance(model, fr.FlowRegularizedModel)
        for ours, theirs in zip(model.get_weights(), alone.get_weights()):
            self.assertAllClose(ours, theirs, rtol=0, atol=1e-5)

    def test_starts_again_when_the_chief_is_killed(self):
        path = os.path.join(self.get_temp_dir(), "new_folder", "model.keras")
        launcher = self.start(*TRAINING, "--workers=2", f"--output={path}")
        first_workers = workers_in(read_until(launcher, "Epoch 3/4"))
        os.kill(first_workers[0], signal.SIGKILL)
        rest, _ = launcher.communicate(timeout=PATIENCE_SECONDS)
        self.assertEqual(launcher.returncode, 0, rest)
        self.assertRegex(rest, "'worker 0': -9.*Restarts left: 3")
        self.assertLen(workers_in(rest), 2)
        self.assertNotIn("Epoch 2/4", rest)
        self.assertFalse(any(map(is_running, first_workers + workers_in(rest))))
        self.assertEqual(os.listdir(os.path.dirname(path)), ["model.keras"])
        self.assert_trained_as_alone(path)

    def test_one_worker_on_each_machine_of_a_cluster(self):
        path = os.path.join(self.get_temp_dir(), "model.keras")

        def start_all():
            return [self.start(*TRAINING, f"--output={path}", TF_CONFIG=config) for config in cluster_of_two()]

        chief, other = start_all()
        read_until(chief, "Epoch 3/4")
        os.kill(other.pid, signal.SIGKILL)
        self.assertGreater(chief.wait(PATIENCE_SECONDS), 0)
        chief, other = start_all()
        self.assertNotIn("Epoch 2/4", read_until(chief, "Saved"))
        self.assertEqual((chief.wait(PATIENCE_SECONDS), other.wait(PATIENCE_SECONDS)), (0, 0))
        self.assert_trained_as_alone(path)

    def test_a_mistake_is_shown_and_not_repeated(self):
        path = os.path.join(self.get_temp_dir(), "model.keras")
        launcher = self.start(f"--output={path}", "--validation_size=0", "--train_size=6002")
        output, _ = launcher.communicate(timeout=PATIENCE_SECONDS)
        self.assertNotEqual(launcher.returncode, 0)
        self.assertIn("before the first", output)
        self.assertIn("Received: train_size=6002", output)
        self.assertLen(workers_in(output), 2)

    def test_another_trainings_backup(self):
        backup = os.path.join(self.get_temp_dir(), "other")
        with outputs.claimed_folder(backup, {"method": "plain"}, "backup"):
            pass
        self.assert_fails_before_workers_start("whose training has another", f"--backup={backup}")

    def test_stops_its_workers(self):
        for number, started in (
            (signal.SIGTERM, "Started worker 0"),
            (signal.SIGINT, "Started worker 1"),
        ):
            with self.subTest(signal=number, started=started):
                launcher = self.start(*TRAINING, f"--output={self.get_temp_dir()}/model.keras")
                output = read_until(launcher, started)
                launcher.send_signal(number)
                rest, _ = launcher.communicate(timeout=PATIENCE_SECONDS)
                self.assertEqual(launcher.returncode, 130)
                self.assertIn("Stopped, with the workers.", rest)
                workers = workers_in(output + rest)
                self.assertNotEmpty(workers)
                self.assertFalse(any(map(is_running, workers)))

    def test_unequal_shares(self):
        self.assert_fails_before_workers_start(
            "Expected --train_size to be a multiple of 3, the replicas. Received: 100",
            *("--workers=3", "--batch_size=30", "--validation_size=0", "--train_size=100"),
        )


@unittest.skipUnless(compat.KERAS_3, "Keras 2 trains on several workers")
class KerasThreeTest(ScriptTest):
    def test_says_that_it_cannot(self):
        self.assert_fails_before_workers_start("Expected Keras 2")


if __name__ == "__main__":
    tf.test.main()

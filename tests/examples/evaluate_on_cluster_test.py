"""Tests of an evaluation on a cluster, whose workers are real, and of which one is really killed."""

import importlib.util
import os
import pathlib
import re
import signal
import unittest

import keras
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.commands import architectures
from tests import command_line
from tests.evaluation import reports

FLAGS = ["--attacks=FlowFGSM", "--epsilons=0.2,0.4", "--examples=64", "--batch_size=16", "--nocheck", "--certify"]


def report_at(path):
    return fr.RobustnessReport.from_json(pathlib.Path(path).read_text())


@unittest.skipIf(importlib.util.find_spec("distributed") is None, "dask.distributed runs the cluster")
class ClusterTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = self.get_temp_dir()
        keras.utils.set_random_seed(0)
        model = os.path.join(self.folder, "untrained.keras")
        architectures.build("strided_cnn", (28, 28, 1), 10, width=0.1).save(model)
        self.flags = [f"--model={model}", *FLAGS]

    def start(self, *arguments):
        return command_line.started(self, "examples/evaluate_on_cluster.py", *self.flags, *arguments)

    def test_the_report_is_that_of_one_run_although_a_worker_is_killed(self):
        # There are four batches, and so not more parts.
        process = self.start("--workers=2", "--parts=8", f"--output={self.folder}/cluster")
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Part "):  # Both workers are in the middle of another one.
                break
        workers = re.findall(r"Worker .*: process (\d+)", "".join(lines))
        self.assertLen(workers, 2, "".join(lines))
        os.kill(int(workers[0]), signal.SIGKILL)
        lines += process.stdout
        self.assertEqual(process.wait(), 0, "".join(lines)[-3000:])
        done = re.findall(r"Part (\d) of 4 is done", "".join(lines))
        self.assertEqual(sorted(done), list("1234"))
        code, _, errors = command_line.run("examples/evaluate.py", *self.flags, f"--output={self.folder}/one")
        self.assertEqual(code, 0, errors)
        reports.assert_same(report_at(f"{self.folder}/cluster.json"), report_at(f"{self.folder}/one.json"))


if __name__ == "__main__":
    tf.test.main()

"""Tests that exported XLA programs are the steps that TensorFlow takes, and train a model that Keras loads."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from benchmarks.xla import exporting
from benchmarks.xla.augmentation import cropped_and_mirrored
from keras_flowreg import compat
from tests import testing

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "digits-small_cnn-flow_gradient-weight=5-seed0"
needs_jax = unittest.skipIf(importlib.util.find_spec("jax") is None, "JAX runs the programs, and is not installed.")


def run(*command):
    """What Python writes when it runs a script or, after "-m", a module."""
    process = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise AssertionError(process.stderr[-3000:])
    return process.stdout


def regularized_model():
    model = testing.regularized(weight=2.0, random_start=0.3, optimizer=keras.optimizers.SGD(0.02, momentum=0.9))
    return model, (lambda images, labels: dict(model.train_step((images, labels))))


def write(function, model, batch, folder):
    inputs = {name: tf.TensorSpec(array.shape, array.dtype) for name, array in batch.items()}
    exporting.write_program(function, inputs, exporting.build_variables(model, batch["images"].shape), folder)


def a_batch():
    images, labels = testing.data()
    return {"images": np.asarray(images), "labels": np.asarray(labels)}


class ExportingTest(tf.test.TestCase):
    def test_a_program_says_which_output_is_which_variable(self):
        model, step = regularized_model()
        batch, folder = a_batch(), self.get_temp_dir()
        write(step, model, batch, folder)
        program = json.loads(pathlib.Path(folder, "program.json").read_text())
        weights = {f"weight_{n}" for n in range(len(model.base_model.weights))}
        self.assertContainsSubset(weights, program["state"])
        self.assertContainsSubset(weights, program["new_state"].values())
        self.assertEqual(program["outputs"], sorted(["accuracy", "gradient_penalty", "loss", "task_loss"]))
        with np.load(os.path.join(folder, "state.npz")) as state:
            self.assertAllEqual(state["weight_0"], model.base_model.get_weights()[0])
            self.assertAllEqual(state["metric_0"], 0)

    def test_values_that_are_compiled_in_are_an_error(self):
        with self.assertRaisesRegex(exporting.CompileTimeConstants, "takes 1 inputs.* takes 0"):
            exporting.write_program(
                lambda size: {"zeros": tf.zeros([size])}, {"size": tf.TensorSpec([], tf.int32)}, {}, self.get_temp_dir()
            )

    @unittest.skipIf(compat.tfa_dense_image_warp() is None, "TensorFlow Addons is not installed.")
    def test_xla_compiles_the_flow_into_a_tape_through_tfas_warp(self):
        def slope_of_the_penalty(flow):
            with tf.GradientTape() as outer:
                outer.watch(flow)
                with tf.GradientTape() as inner:
                    inner.watch(flow)
                    value = tf.reduce_sum(compat.tfa_dense_image_warp()(tf.ones([1, 4, 4, 1]), flow) ** 3)
                penalty = tf.reduce_sum(inner.gradient(value, flow) ** 2)
            return {"slope": outer.gradient(penalty, flow)}

        with self.assertRaises(exporting.CompileTimeConstants):
            flow = tf.TensorSpec([1, 4, 4, 2], tf.float32)
            exporting.write_program(slope_of_the_penalty, {"flow": flow}, {}, self.get_temp_dir())


@needs_jax
class RunnerTest(tf.test.TestCase, parameterized.TestCase):
    def test_three_steps_end_in_keras_weights(self):
        from benchmarks.xla.program import Program

        model, step = regularized_model()
        batch, folder = a_batch(), self.get_temp_dir()
        write(step, model, batch, folder)
        program = Program(folder)
        for _ in range(3):
            program.reset("metric")
            outputs = program(**batch)
            model.reset_metrics()
            expected = model.train_on_batch(batch["images"], batch["labels"], return_dict=True)
        for name, value in expected.items():
            self.assertAllClose(np.asarray(outputs[name]), value, rtol=1e-4)
        for n, weight in enumerate(model.base_model.get_weights()):
            self.assertAllClose(np.asarray(program.state[f"weight_{n}"]), weight, atol=1e-5)

    @parameterized.parameters(("float32", 1e-3), ("mixed_bfloat16", 2e-2))
    def test_time_steps(self, policy, tolerance):
        folder = self.get_temp_dir()
        network = ["--architecture=small_cnn", "--width=0.1", "--batch_size=4", "--image_shape=8", "--image_shape=8"]
        network += ["--image_shape=1", f"--policy={policy}"]
        run("-m", "benchmarks.xla.export_steps", *network, f"--output={folder}")
        table = run("-m", "benchmarks.xla.time_steps", f"--programs={folder}", "--rounds=1", "--steps=2", "--matrix=64")
        rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in table.splitlines() if "|" in line}
        for name in ("plain", "analytic", "tape", "attack_step"):
            self.assertLess(float(rows[name][-1]), tolerance, name)
        self.assertGreater(float(rows["analytic"][3]), 1.5)
        self.assertAllClose(float(rows["analytic"][2]), float(rows["tape"][2]), rtol=0.2)


@needs_jax
class StudyTest(tf.test.TestCase):
    """A cell that is trained without TensorFlow."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        study = ["--preset=smoke", f"--cell={NAME}"]
        run("-m", "benchmarks.xla.export_training", *study, f"--output={cls.folder}", "--part=200")
        cls.train("runs")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()
        super().tearDownClass()

    @classmethod
    def train(cls, runs, *options):
        program, data = f"--program={cls.folder / NAME}", f"--data={cls.folder / 'data-digits'}"
        return run(
            "-m", "benchmarks.xla.train_program", program, data, f"--output={cls.folder / runs / NAME}", *options
        )

    def imported(self, output, *options):
        """The study's result of the cell."""
        study, runs = ["--preset=smoke", f"--scratch={self.folder / output}"], f"--runs={self.folder / 'runs'}"
        run("-m", "benchmarks.xla.import_runs", *study, runs, *options)
        run("examples/reproduce.py", *study, f"--output={self.folder / output}", f"--cell={NAME}")
        return json.loads((self.folder / output / f"{NAME}.json").read_text())

    def records(self, output):
        """What the attacks did to each batch."""
        files = [self.folder / output / NAME / f"{split}.jsonl" for split in ("validation", "test")]
        return [json.loads(line)["record"] for file in files for line in file.read_text().splitlines()[1:]]

    def test_a_training_that_was_killed_goes_on(self):
        self.assertLen(list((self.folder / "data-digits").glob("*.npz")), 2)
        self.train("killed", "--epochs=1")
        self.assertIn("epoch 2/2", self.train("killed"))
        states = (self.folder / runs / NAME / "state2.npz" for runs in ("runs", "killed"))
        expected, found = map(np.load, states)
        for variable in expected:
            self.assertAllEqual(found[variable], expected[variable])

    def test_attacks_find_with_tensorflow_what_they_find_without(self):
        attacks = f"--attacks={self.folder / 'attacks'}"
        run("-m", "benchmarks.xla.export_attacks", "--preset=smoke", f"--output={self.folder / 'attacks'}")
        run("-m", "benchmarks.xla.attack_programs", attacks, f"--runs={self.folder / 'runs'}")
        # A training that has not ended is not attacked.
        self.train("begun", "--epochs=1")
        run("-m", "benchmarks.xla.attack_programs", attacks, f"--runs={self.folder / 'begun'}")
        self.assertEmpty(list((self.folder / "begun" / NAME).glob("*-attack*")))
        without, by_it = self.imported("without", attacks), self.imported("by_it")
        self.assertEqual(without["chosen_epoch"], 2)
        history = (self.folder / "runs" / NAME / "history.jsonl").read_text().splitlines()
        self.assertEqual(without["history"], [json.loads(line) for line in history])
        for name in ("clean_accuracy", "worst_case", "examples", "settings"):
            self.assertEqual(without["test"][name], by_it["test"][name])
        self.assertLen(self.records("without"), 4)
        for found, expected in zip(self.records("without"), self.records("by_it")):
            for name in ("success", "clean_success", "queries"):
                self.assertEqual(found[name], expected[name])
            self.assertAllClose(found["loss"], expected["loss"], rtol=1e-4)
            self.assertAllClose(found["median"], expected["median"], atol=5e-3)


class AugmentationTest(tf.test.TestCase):
    def test_every_image_is_a_crop_of_its_padded_self(self):
        images = np.random.RandomState(0).randint(1, 256, [64, 6, 6, 1]).astype("uint8")
        padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
        found = cropped_and_mirrored(tf.constant(images), tf.constant([1, 2]), 2, True).numpy()
        offsets = set()
        for image, original in zip(found, padded):
            crops = {
                (y, x, way): original[y : y + 6, x : x + 6][:, ::way]
                for y in range(5)
                for x in range(5)
                for way in (1, -1)
            }
            (offset,) = [key for key, crop in crops.items() if np.array_equal(crop, image)]
            offsets.add(offset)
        for axis, values in enumerate(({0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}, {1, -1})):
            self.assertEqual({offset[axis] for offset in offsets}, values)

    def test_nothing_to_do(self):
        images = tf.constant(np.random.RandomState(0).randint(0, 256, [3, 4, 4, 3]).astype("uint8"))
        self.assertAllEqual(cropped_and_mirrored(images, tf.constant([1, 2]), 0, False), images)


if __name__ == "__main__":
    tf.test.main()

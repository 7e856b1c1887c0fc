"""Tests of the callbacks."""

import csv
import os
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from tests import testing


class Recorder(keras.callbacks.Callback):
    """Records the penalty's weight in each batch; can fail on the way."""

    def __init__(self, fail_in_epoch=None):
        super().__init__()
        self.weights, self.fail_in_epoch, self.epoch = [], fail_in_epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.model.regularizer.weight * float(self.model.penalty_scale))
        if self.epoch == self.fail_in_epoch and batch == 1:
            raise InterruptedError("The machine went away.")


class RestoreOrderTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0, 0), (50, 2), (48, 2), (75, 3))
    def test_each_epoch_that_is_done_is_passed_over(self, batches_seen, epochs):
        """A loss scale that was too large has two steps left out."""
        passed = []
        counted = tf.data.Dataset.range(25).map(lambda batch: batch)
        optimizer = keras.optimizers.SGD()
        optimizer.iterations.assign(batches_seen)
        callback = fr.callbacks.RestoreOrder(counted)
        callback.set_model(mock.Mock(optimizer=optimizer))
        with mock.patch.object(type(counted), "__iter__", lambda dataset: passed.append(dataset) or iter(())):
            callback.on_train_begin()
        self.assertLen(passed, epochs * compat.ITERATORS_PER_EPOCH)


class PenaltyWarmupTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        # 3 batches an epoch, weight 4.
        ({"epochs": 2}, [0, 2 / 3, 4 / 3, 2, 8 / 3, 10 / 3, 4, 4, 4]),
        ({"epochs": 1.5, "start": 0.5}, [2, 2 + 4 / 9, 2 + 8 / 9, 2 + 4 / 3, 2 + 16 / 9, 4, 4, 4, 4]),
        ({"epochs": 1, "shape": "cosine"}, [0, 1, 3, 4, 4, 4, 4, 4, 4]),
        ({"epochs": 0}, [4] * 9),
    )
    def test_schedule(self, options, expected):
        model = testing.regularized(weight=4.0)
        recorder = Recorder()
        testing.fit(model, epochs=3, callbacks=[fr.callbacks.PenaltyWarmup(**options), recorder])
        self.assertAllClose(recorder.weights, expected, atol=1e-5)

    def test_a_training_that_ends_early_leaves_the_whole_weight(self):
        model = testing.regularized(weight=4.0)
        stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: setattr(model, "stop_training", True))
        testing.fit(model, epochs=9, callbacks=[fr.callbacks.PenaltyWarmup(epochs=9), stop])
        self.assertAllEqual(model.penalty_scale, 1)

    def test_a_training_that_an_error_ends_leaves_the_whole_weight(self):
        model = testing.regularized(weight=4.0)
        with self.assertRaisesRegex(InterruptedError, "went away"):
            testing.fit(model, epochs=9, callbacks=[fr.callbacks.PenaltyWarmup(epochs=9), Recorder(fail_in_epoch=1)])
        self.assertAllEqual(model.penalty_scale, 1)

    @parameterized.parameters(0, 1)
    def test_what_is_saved_within_an_epoch_has_the_whole_weight(self, place):
        model, path = testing.regularized(weight=8.0), os.path.join(self.get_temp_dir(), "kept.keras")
        callbacks = [fr.callbacks.PenaltyWarmup(10)]
        callbacks.insert(place, keras.callbacks.ModelCheckpoint(path, save_freq=2))
        testing.fit(model, epochs=1, callbacks=callbacks)
        loaded = keras.models.load_model(path)
        logs = loaded.train_on_batch(*testing.data(8), return_dict=True)
        self.assertAllClose(logs["loss"], logs["task_loss"] + 8 * logs["gradient_penalty"], rtol=1e-5)

    def test_weights_of_another_training_keep_this_ones_weight(self):
        path = os.path.join(self.get_temp_dir(), "kept.weights.h5")
        other, model = testing.regularized(weight=1.0), testing.regularized(weight=8.0)
        testing.fit(other)
        other.save_weights(path)
        testing.fit(model)
        model.load_weights(path)
        logs = model.train_on_batch(*testing.data(8), return_dict=True)
        self.assertAllClose(logs["loss"], logs["task_loss"] + 8 * logs["gradient_penalty"], rtol=1e-5)

    def test_validation_has_the_whole_weight(self):
        model = testing.regularized(weight=4.0, optimizer=keras.optimizers.SGD(0.0))
        warmup = fr.callbacks.PenaltyWarmup(epochs=2)
        history = testing.fit(model, epochs=2, callbacks=[warmup], validation_data=testing.data())
        expected = history["val_task_loss"][0] + 4 * history["val_gradient_penalty"][0]
        self.assertAllClose(history["val_loss"], [expected, expected], rtol=1e-5)
        self.assertLess(history["loss"][0], history["loss"][1])

    def test_nothing_is_traced_again(self):
        traces = []

        class Counted(fr.FlowRegularizedModel):
            def train_step(self, batch):
                traces.append(1)
                return super().train_step(batch)

        model = Counted(testing.network(), fr.FlowGradientRegularizer(4.0))
        model.compile("sgd", testing.cross_entropy())
        testing.fit(model, size=32)
        first_epoch = len(traces)
        testing.fit(model, size=32, epochs=4, callbacks=[fr.callbacks.PenaltyWarmup(3)])
        self.assertLen(traces, first_epoch)

    def test_unknown_number_of_batches_waits_for_the_first_epoch(self):
        dataset = tf.data.Dataset.from_tensor_slices(testing.data()).batch(16)
        dataset = dataset.filter(lambda *_: True)
        model, recorder = testing.regularized(weight=4.0), Recorder()
        model.fit(dataset, epochs=3, verbose=0, callbacks=[fr.callbacks.PenaltyWarmup(2), recorder])
        self.assertAllClose(recorder.weights[:3], [0, 0, 0])
        self.assertAllClose(recorder.weights[3], 2)
        self.assertAllClose(recorder.weights[6:], [4, 4, 4])

    def test_interrupted_training_resumes_where_it_was(self):
        def callbacks(folder, recorder):
            backup = keras.callbacks.BackupAndRestore(os.path.join(self.get_temp_dir(), folder))
            return [backup, fr.callbacks.PenaltyWarmup(4), recorder]

        def train(folder, recorder):
            model = testing.regularized(weight=4.0, random_start=0.3)
            testing.fit(model, epochs=4, callbacks=callbacks(folder, recorder))
            return model

        whole, resumed = Recorder(), Recorder()
        expected = train("whole", whole)
        with self.assertRaises(InterruptedError):
            train("parts", Recorder(fail_in_epoch=2))
        model = train("parts", resumed)
        self.assertAllClose(resumed.weights, whole.weights[6:])
        for ours, theirs in zip(model.base_model.get_weights(), expected.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=1e-5)

    def test_bad_input(self):
        with self.assertRaisesRegex(ValueError, "Expected `epochs`.*-1"):
            fr.callbacks.PenaltyWarmup(-1)
        with self.assertRaisesRegex(ValueError, "Expected `start` to be a fraction"):
            fr.callbacks.PenaltyWarmup(1, start=1.5)
        with self.assertRaisesRegex(ValueError, "Expected `shape`.*'steep'"):
            fr.callbacks.PenaltyWarmup(1, shape="steep")
        plain = testing.network()
        plain.compile("sgd", testing.cross_entropy())
        with self.assertRaisesRegex(
            ValueError, "Expected a FlowRegularizedModel with `regularizer`, for PenaltyWarmup"
        ):
            testing.fit(plain, callbacks=[fr.callbacks.PenaltyWarmup(1)])


class AttackWarmupTest(tf.test.TestCase):
    def model(self):
        base = testing.network()
        attack = fr.attacks.FlowPGD(epsilon=0.8, steps=2, start="zero")
        model = fr.FlowRegularizedModel(base, attack=attack)
        model.compile(keras.optimizers.SGD(0.0), testing.cross_entropy())
        return model

    def test_the_flows_that_are_trained_on_rise(self):
        images, labels = testing.data(16)
        model = self.model()
        flow = model.attack.run(images, labels, model=model, stop_when_fooled=False).flow
        history = testing.fit(model, size=16, epochs=3, callbacks=[fr.callbacks.AttackWarmup(2)])
        expected = [
            testing.cross_entropy()(labels, model.base_model(fr.ops.dense_image_warp(images, scale * flow)))
            for scale in (0.0, 0.5, 1.0)
        ]
        self.assertAllClose(history["loss"], expected, rtol=1e-5)
        self.assertLess(expected[0], expected[1])

    def test_bad_input(self):
        with self.assertRaisesRegex(ValueError, "Expected `epochs`.*-1"):
            fr.callbacks.AttackWarmup(-1)
        with self.assertRaisesRegex(ValueError, "Expected a FlowRegularizedModel with `attack`, for AttackWarmup"):
            testing.fit(testing.regularized(), callbacks=[fr.callbacks.AttackWarmup(1)])


class EpsilonWarmupTest(tf.test.TestCase):
    def test_the_radius_rises(self):
        images, labels = testing.data(16)
        base = testing.network()
        model = fr.FlowRegularizedModel(base, fr.IntervalBoundRegularizer(epsilon=0.2))
        model.compile(keras.optimizers.SGD(0.0), testing.cross_entropy())
        history = testing.fit(model, size=16, epochs=3, callbacks=[fr.callbacks.EpsilonWarmup(2)])
        expected = [
            model.regularizer(base, images, labels, testing.cross_entropy(), start_scale=scale)[1]
            for scale in (0.0, 0.5, 1.0)
        ]
        self.assertAllClose(history["interval_penalty"], expected, rtol=1e-4, atol=1e-5)
        self.assertLess(expected[1], expected[2])

    def test_bad_input(self):
        with self.assertRaisesRegex(ValueError, "Expected a FlowRegularizedModel with `epsilon_scale`, for EpsilonW"):
            testing.fit(testing.regularized(), callbacks=[fr.callbacks.EpsilonWarmup(1)])


class RobustAccuracyMonitorTest(tf.test.TestCase):
    def test_other_callbacks_see_the_accuracy_under_the_attack(self):
        images, labels = testing.data(20)
        model = testing.regularized()
        attack = fr.attacks.FlowPGD(0.3, steps=3)
        monitor = fr.callbacks.RobustAccuracyMonitor(attack, (images, labels), batch_size=8)
        best = keras.callbacks.ModelCheckpoint(
            os.path.join(self.get_temp_dir(), "best.weights.h5"),
            monitor="val_robust_accuracy",
            mode="max",
            save_weights_only=True,
            save_best_only=True,
        )
        history = testing.fit(model, epochs=3, callbacks=[monitor, best])
        left = [~attack.run(images[i : i + 8], labels[i : i + 8], model=model).success.numpy() for i in (0, 8, 16)]
        self.assertAllClose(history["val_robust_accuracy"][-1], np.mean(np.concatenate(left)))
        self.assertEqual(best.best, max(history["val_robust_accuracy"]))

    def test_what_the_loss_ignores_does_not_count(self):
        images, labels = testing.data(20)
        labels[:3] = -1
        monitors = [
            fr.callbacks.RobustAccuracyMonitor(fr.attacks.FlowPGD(0.1, steps=2), (images, labels), batch_size=3)
        ]
        monitors += [fr.callbacks.FlowGradientMonitor((images, labels), batch_size=8)]
        others = [fr.callbacks.RobustAccuracyMonitor(fr.attacks.FlowPGD(0.1, steps=2), (images[3:], labels[3:]))]
        others += [fr.callbacks.FlowGradientMonitor((images[3:], labels[3:]))]
        found, expected = (
            testing.fit(testing.regularized(compile_loss=testing.cross_entropy(ignore_class=-1)), callbacks=callbacks)
            for callbacks in (monitors, others)
        )
        for name in ("val_robust_accuracy", *FlowGradientMonitorTest.NAMES):
            self.assertAllClose(found[name], expected[name], rtol=1e-4)
        model = testing.regularized(compile_loss=testing.cross_entropy(ignore_class=-1))
        monitor = fr.callbacks.FlowGradientMonitor((images[:3], labels[:3]))
        with self.assertRaisesRegex(ValueError, "Expected labels that the loss does not ignore.*Received -1 alone"):
            testing.fit(model, callbacks=[monitor])

    def test_attacks_the_model_that_is_trained(self):
        """One monitor, two models: each sees its own robust accuracy."""
        images, labels = testing.data(20)
        monitor = fr.callbacks.RobustAccuracyMonitor(fr.attacks.FlowPGD(0.3, steps=2), (images, labels))
        constant = testing.network()
        constant.set_weights([0 * weight for weight in constant.get_weights()])
        constant.layers[-1].bias.assign([1.0, 0.0, 0.0, 0.0])
        for base, expected in ((constant, np.mean(labels == 0)), (testing.network(), None)):
            model = testing.regularized(base, optimizer=keras.optimizers.SGD(0.0))
            accuracy = testing.fit(model, callbacks=[monitor])["val_robust_accuracy"][-1]
            fooled = monitor.attack.run(images, labels, model=model).success
            self.assertAllClose(accuracy, 1 - np.mean(fooled) if expected is None else expected)

    def test_bad_input(self):
        with self.assertRaisesRegex(ValueError, "Expected an untargeted attack"):
            fr.callbacks.RobustAccuracyMonitor(fr.attacks.FlowPGD(0.3, targeted=True), testing.data())
        with self.assertRaisesRegex(TypeError, "Expected `attack`.*'pgd'"):
            fr.callbacks.RobustAccuracyMonitor("pgd", testing.data())
        attack = fr.attacks.RandomFlow(0.1)
        with self.assertRaisesRegex(ValueError, "Expected `validation_data`.*ndarray"):
            fr.callbacks.RobustAccuracyMonitor(attack, np.zeros([2, 4, 4, 1]))


class FlowGradientMonitorTest(tf.test.TestCase):
    NAMES = ("val_flow_gradient_norm", "val_input_gradient_norm")

    def test_norms_are_means_over_examples(self):
        images, labels = testing.data(20)
        model = testing.regularized()
        monitor = fr.callbacks.FlowGradientMonitor((images, labels), batch_size=8)
        history = testing.fit(model, size=16, callbacks=[monitor])
        gradients = {
            "val_flow_gradient_norm": fr.flow_gradients(model, images, labels),
            "val_input_gradient_norm": fr.input_gradients(model, images, labels),
        }
        for name, gradient in gradients.items():
            expected = np.linalg.norm(gradient.numpy().reshape(20, -1), axis=1).mean()
            self.assertAllClose(history[name], [expected], rtol=1e-5)

    def test_other_callbacks_see_them(self):
        folder = self.get_temp_dir()
        log, boards = os.path.join(folder, "log.csv"), os.path.join(folder, "boards")
        stop = keras.callbacks.EarlyStopping("val_flow_gradient_norm", mode="min", patience=1, min_delta=1e9)
        dataset = tf.data.Dataset.from_tensor_slices(testing.data()).batch(16)
        plain = testing.network()
        plain.compile("sgd", testing.cross_entropy())
        callbacks = [
            fr.callbacks.FlowGradientMonitor(dataset, batches=2),
            keras.callbacks.CSVLogger(log),
            keras.callbacks.TensorBoard(boards),
            stop,
        ]
        history = testing.fit(plain, epochs=5, callbacks=callbacks)
        with open(log, newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertLess(len(rows), 5)  # EarlyStopping found its value
        for name in self.NAMES:
            self.assertAllClose([float(row[name]) for row in rows], history[name], rtol=1e-5)
        tags = set(_tensorboard_tags(boards))
        self.assertContainsSubset(["epoch_flow_gradient_norm", "epoch_input_gradient_norm"], tags)

    def test_bad_input(self):
        with self.assertRaisesRegex(ValueError, "Expected `validation_data`.*ndarray"):
            fr.callbacks.FlowGradientMonitor(np.zeros([2, 4, 4, 1]))
        with self.assertRaisesRegex(ValueError, "Expected `lattice`"):
            fr.callbacks.FlowGradientMonitor(testing.data(), lattice="two_sided")
        empty = tf.data.Dataset.from_tensor_slices(testing.data()).batch(16).take(0)
        with self.assertRaisesRegex(ValueError, "at least one batch"):
            testing.fit(testing.regularized(), callbacks=[fr.callbacks.FlowGradientMonitor(empty)])


class AttackPicturesTest(tf.test.TestCase):
    def test_one_picture_each_second_epoch(self):
        model = testing.network()
        model.compile("sgd", testing.cross_entropy())
        attack, logs = fr.attacks.FlowFGSM(epsilon=0.5), self.get_temp_dir()
        pictures = fr.callbacks.AttackPictures(attack, testing.data(), logs, examples=2, every=2)
        weights = model.get_weights()
        for epoch in range(3):
            pictures.set_model(model)
            pictures.on_epoch_end(epoch)
        drawn = [event for event in _events(os.path.join(logs, "attack", "events*")) if event.summary.value]
        self.assertEqual([event.step for event in drawn], [0, 2])
        width, height, png = tf.make_ndarray(drawn[0].summary.value[0].tensor)
        self.assertEqual((int(width), int(height)), (13 * 60, round(2 * 2.7 * 60)))
        image = tf.io.decode_png(png).numpy()
        self.assertGreater(len(np.unique(image.reshape(-1, 3), axis=0)), 100)
        self.assertAllEqual(drawn[1].summary.value[0].tensor.string_val[2], png)  # The model is the same.
        for ours, before in zip(model.get_weights(), weights):
            self.assertAllEqual(ours, before)

    def test_bad_input(self):
        attack = fr.attacks.FlowFGSM(epsilon=0.5)
        with self.assertRaisesRegex(TypeError, "`attack`"):
            fr.callbacks.AttackPictures("FlowPGD", testing.data(), "logs")
        with self.assertRaisesRegex(ValueError, "`every`"):
            fr.callbacks.AttackPictures(attack, testing.data(), "logs", every=0)
        with self.assertRaisesRegex(ValueError, "`validation_data`"):
            fr.callbacks.AttackPictures(attack, np.zeros([2, 4, 4, 1]), "logs")


def _events(pattern):
    for path in tf.io.gfile.glob(pattern):
        yield from tf.compat.v1.train.summary_iterator(path)


def _tensorboard_tags(folder):
    for event in _events(os.path.join(folder, "*", "events*")):
        yield from (value.tag for value in event.summary.value)


if __name__ == "__main__":
    tf.test.main()

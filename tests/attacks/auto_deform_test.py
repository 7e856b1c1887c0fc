"""Tests that AutoDeform is the worst case over its members."""

import functools
import json
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_flowreg as fr
from keras_flowreg.attacks import auto_deform
from keras_flowreg.ops import random
from keras_flowreg.ops.labels import other_class
from tests import testing


@functools.cache
def network():
    """One model for the tests that leave it as it is: what is compiled for it is compiled once."""
    return testing.network()


class AutoDeformTest(tf.test.TestCase):
    def test_no_member_fools_what_it_does_not(self):
        images, _ = testing.data(24)
        model = network()
        labels = np.argmax(model(images), axis=1)
        whole = fr.attacks.AutoDeform(0.3, loss="margin").run(images, labels, model=model)
        for attack in (fr.attacks.RandomFlow, fr.attacks.FlowFGSM, fr.attacks.FlowPGD, fr.attacks.FlowFrankWolfe):
            member = attack(0.3, loss="margin").run(images, labels, model=model)
            self.assertFalse(np.any(member.success.numpy() & ~whole.success.numpy()), attack)

    def test_each_other_class_is_sought(self):
        images, _ = testing.data(24)
        model = network()
        predictions = tf.constant(model(images))
        labels = tf.argmax(predictions, axis=1)
        whole = fr.attacks.AutoDeform(0.3, loss="margin").run(images, labels, model=model)
        found = np.zeros(24, bool)
        for rank in range(testing.CLASSES - 1):
            target = other_class(labels, predictions, rank)
            attack = fr.attacks.FlowFrankWolfe(0.3, steps=30, loss="margin", targeted=True)
            moved = attack(images, target, model=model)
            found |= np.argmax(model(moved), axis=1) != labels.numpy()
        self.assertTrue(found.any())
        self.assertFalse(np.any(found & ~whole.success.numpy()))

    def test_a_long_search_is_for_examples_that_have_hardly_a_lead_left(self):
        images, _ = testing.data(8)
        model = network()
        labels = np.argmax(model(images), axis=1)
        attack = fr.attacks.AutoDeform(1e-3, loss="margin")

        def queries(members):
            with mock.patch.object(auto_deform, "_MEMBERS", members):
                return attack.run(images, labels, model=model).queries.numpy()

        member = auto_deform.Member(fr.attacks.FlowFrankWolfe, {"steps": 3, "start": "random", "restarts": 4}, lead=0.5)
        random = auto_deform.Member(fr.attacks.RandomFlow, {"draws": 1})
        cheap = queries([random])
        # Nothing is near: to see that takes two queries.
        self.assertAllEqual(queries([random, member]), cheap + 2)
        self.assertAllGreater(queries([random, member._replace(lead=1.0)]) - cheap, 4 * 3)

    def test_many_starts_are_for_examples_whose_starts_differ(self):
        images, _ = testing.data(8)
        model = network()
        labels = np.argmax(model(images), axis=1)
        attack = fr.attacks.AutoDeform(0.02, loss="margin")
        options = {"steps": 3, "start": "random", "loss": "margin"}
        few = auto_deform.Member(fr.attacks.FlowFrankWolfe, options, starts=3)

        def queries(*members):
            with mock.patch.object(auto_deform, "_MEMBERS", members):
                return attack.run(images, labels, model=model, seed=(3, 4)).queries.numpy()

        alone = fr.attacks.FlowFrankWolfe(0.02, **options)
        seeds = [random.fold_in(random.fold_in((3, 4), 0), start) for start in range(3)]
        margins = [alone.run(images, labels, model=model, seed=seed).loss for seed in seeds]
        near = -np.mean(margins, axis=0) / np.std(margins, axis=0, ddof=1)
        is_left = np.max(margins, axis=0) < 0
        deviations = float(np.quantile(near[is_left & np.isfinite(near)], 0.4))
        many = few._replace(starts=5, deviations=deviations)
        self.assertAllEqual(queries(few, many) > queries(few), is_left & (near < deviations))

    def test_in_a_graph_the_same_examples_are_sought(self):
        images, _ = testing.data(16)
        model = network()
        labels = np.argmax(model(images), axis=1)
        attack = fr.attacks.AutoDeform(0.05, loss="margin")
        options = {"steps": 3, "start": "random", "loss": "margin"}
        few = auto_deform.Member(fr.attacks.FlowFrankWolfe, options, starts=3)
        farther = auto_deform.Member(fr.attacks.RandomFlow, {"draws": 1, "loss": "margin"}, starts=2, deviations=20.0)
        members = [few, farther, few._replace(deviations=40.0)]

        def queries():
            with mock.patch.object(auto_deform, "_MEMBERS", members):
                return attack.run(images, labels, model=model, seed=(3, 4)).queries

        in_a_graph, eager = tf.function(queries)(), queries()
        self.assertGreater(len(np.unique(eager)), 1)
        self.assertAllEqual(in_a_graph, eager)

    def test_success_is_the_images_when_the_loss_is_raised_on(self):
        images, _ = testing.data(16)
        model = network()
        labels = np.argmax(model(images), axis=1)
        # The first member fools nothing, so that nothing is near, and the second would fool much.
        members = [
            auto_deform.Member(fr.attacks.RandomFlow, {"draws": 1}),
            auto_deform.Member(fr.attacks.FlowFrankWolfe, {"steps": 5, "loss": "margin"}, lead=0.01),
        ]
        with mock.patch.object(auto_deform, "_MEMBERS", members):
            result = fr.attacks.AutoDeform(0.1, loss="margin").run(images, labels, model=model, stop_when_fooled=False)
        self.assertAllEqual(result.success, np.argmax(model(result.images), axis=1) != labels)

    def test_every_run_of_the_model_is_a_query(self):
        images, _ = testing.data(1)
        counted, model = tf.Variable(0), testing.network()

        class Counting(keras.layers.Layer):
            def call(self, images):
                with tf.control_dependencies([counted.assign_add(tf.shape(images)[0])]):
                    return tf.identity(images)

        counting = keras.Sequential([keras.Input(testing.SHAPE), Counting(), model])
        labels = np.argmax(model(images), axis=1)
        attack = fr.attacks.AutoDeform(1e-3, loss="margin")
        attack.run(images, labels, model=counting)  # What is traced and probed the first time is no query.
        counted.assign(0)
        result = attack.run(images, labels, model=counting)
        # One gives the number of classes, for each targeted member that runs.
        self.assertBetween(counted.numpy() - result.queries[0].numpy(), 0, 3)

    def test_a_class_may_change_at_a_lower_loss(self):
        inputs, head = keras.Input([2, 2, 1]), keras.layers.Dense(3)
        model = keras.Model(inputs, head(keras.layers.Flatten()(inputs)))
        kernel = np.zeros([4, 3], "float32")
        kernel[0] = [0, 1.05, -7]
        head.set_weights([kernel, np.array([2, 1, 1.95], "float32")])
        model.compile(loss=testing.cross_entropy())
        # With the first pixel the second class grows, and the third falls by more.
        result = fr.attacks.AutoDeform(1.0).run(np.array([0, 1, 1, 1.0]).reshape([1, 2, 2, 1]), [0], model=model)
        self.assertEqual(np.argmax(model(result.images)), 1)
        self.assertAllEqual(result.success, [True])
        self.assertAllLess(result.loss, result.clean_loss)

    def test_step_sizes_grow_with_epsilon(self):
        def step_sizes(epsilon):
            members = fr.attacks.AutoDeform(epsilon).members()
            return [member.options().get("step_size") or 0.0 for member in members]

        self.assertAllClose(step_sizes(0.6), 2 * np.array(step_sizes(0.3)))
        self.assertIn(0.6, step_sizes(0.3))  # across the ball

    def test_settings_tell_the_members(self):
        attack = fr.attacks.AutoDeform(0.3)
        settings = attack.settings()
        self.assertEqual(json.loads(json.dumps(settings)), settings)
        self.assertEqual(settings["epsilon"], 0.3)
        members = [member["class"] for member in settings["members"]]
        self.assertEqual(members, [type(member).__name__ for member in attack.members()])


if __name__ == "__main__":
    tf.test.main()

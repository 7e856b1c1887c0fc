"""Tests of what a step of FlowRegularizedModel counts, and of the optimizers that it takes."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from tests import testing

ONCE = (
    {},
    {"method": "finite_difference"},
    {"fraction": 0.5},
    {"model_mode": "inference"},
    {"method": "finite_difference", "fraction": 0.25},
)


def statistics_after_a_step(model):
    testing.fit(model, size=16)
    (layer,) = [layer for layer in model.base_model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return layer.moving_mean.numpy(), layer.moving_variance.numpy()


class SharedNoise(keras.layers.Layer):
    """Draws from Keras's own generator, as its models' stochastic depth does."""

    def call(self, inputs, training=None):
        return inputs * (1 + 0.5 * keras.random.normal([tf.shape(inputs)[0], 1, 1, 1])) if training else inputs


class OneStepCountsOnceTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*({"options": options} for options in ONCE))
    def test_moving_statistics(self, options):
        def network():
            return testing.network(keras.layers.BatchNormalization(momentum=0.9))

        plain = fr.FlowRegularizedModel(network())
        plain.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
        mean, variance = statistics_after_a_step(plain)
        ours = statistics_after_a_step(testing.regularized(network(), **options))
        # Means over parts of a batch have the batch's mean; their variances differ a little.
        self.assertAllClose(ours[0], mean, atol=1e-6)
        self.assertAllClose(ours[1], variance, atol=1e-6 if options.get("fraction", 1) == 1 else 0.005)

    def test_losses_of_activations(self):
        def network():
            return testing.network(keras.layers.Activation("relu", activity_regularizer=keras.regularizers.L2(1.0)))

        plain = network()
        plain.compile(loss=testing.cross_entropy())
        expected = plain.evaluate(*testing.data(16), verbose=0)
        model = testing.regularized(network(), method="finite_difference", step=0.5)
        for history in (testing.fit(model, size=16), model.evaluate(*testing.data(16), verbose=0, return_dict=True)):
            self.assertAllClose(np.ravel(history["task_loss"])[0], expected, rtol=1e-5)
            plain.set_weights(model.base_model.get_weights())
            expected = plain.evaluate(*testing.data(16), verbose=0)

    @parameterized.named_parameters(
        ("dropout", lambda: keras.layers.Dropout(0.5)),
        ("spatial_dropout", lambda: keras.layers.SpatialDropout2D(0.5)),
        ("gaussian_dropout", lambda: keras.layers.GaussianDropout(0.5)),
        ("gaussian_noise", lambda: keras.layers.GaussianNoise(0.5)),
        ("alpha_dropout", lambda: keras.layers.AlphaDropout(0.3)),
        ("flip_behind", lambda: keras.Sequential([keras.layers.Rescaling(2.0), keras.layers.RandomFlip()])),
        ("shared_generator", SharedNoise),
    )
    def test_both_passes_of_a_finite_difference_have_the_same_masks(self, layer):
        images, labels = map(tf.constant, testing.data(16))
        if layer is SharedNoise and not compat.KERAS_3:
            self.skipTest("Keras 2 has no generator for layers without one that can be set back.")
        linear = keras.Sequential(
            [keras.layers.Input(testing.SHAPE), layer(), keras.layers.Flatten(), keras.layers.Dense(4)]
        )
        regularizer = fr.FlowGradientRegularizer(1.0, method="finite_difference", lattice="forward")

        @tf.function
        def derivative():
            with tf.GradientTape() as tape:
                _, penalty = regularizer(linear, images, labels, testing.cross_entropy())
            return penalty, tape.gradient(penalty, linear.trainable_variables[0])

        penalty, first = derivative()
        _, second = derivative()
        # With other masks in the second pass the difference of two losses, over a step of 0.01, would be a hundred times
        # as large as the penalty's slope.
        self.assertLess(tf.norm(first), 100 * penalty)
        self.assertNotAllClose(first, second)  # Each step draws anew.

    def test_draws_that_cannot_be_repeated(self):
        class DropPath(keras.layers.Layer):
            def call(self, inputs, training=None):
                return (
                    inputs * tf.floor(0.7 + tf.random.uniform([tf.shape(inputs)[0], 1, 1, 1])) if training else inputs
                )

        with self.assertRaisesRegex(ValueError, "draw by keras.random.*Received a model with others"):
            testing.fit(testing.regularized(testing.network(DropPath()), method="finite_difference"))
        testing.fit(testing.regularized(testing.network(DropPath())))

    def test_accumulated_steps_start_at_different_flows(self):
        if not compat.KERAS_3:
            self.skipTest("Keras 2 does not accumulate gradients.")
        model = testing.regularized(optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=4))
        seeds = []
        for _ in range(4):
            seeds.append(tuple(model._step_seed().numpy()))
            testing.fit(model, size=16)
        self.assertLen(set(seeds), 4)

    def test_penalty_every_counts_batches_of_an_accumulated_step(self):
        if not compat.KERAS_3:
            self.skipTest("Keras 2 does not accumulate gradients.")

        def change(penalty_every, accumulated):
            optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulated)
            model = testing.regularized(weight=5.0, optimizer=optimizer, penalty_every=penalty_every)
            testing.fit(model, size=32)  # two batches
            return model.base_model.get_weights()[0]

        # The penalty of the first batch alone, at twice its weight, is in the mean of both.
        once = testing.regularized(weight=5.0)
        images, labels = testing.data(32)
        gradients = []
        for batch, weight in ((slice(0, 16), 10.0), (slice(16, 32), 0.0)):
            with tf.GradientTape() as tape:
                predictions, penalty = once.regularizer(
                    once.base_model, images[batch], labels[batch], testing.cross_entropy()
                )
                total = testing.cross_entropy()(labels[batch], predictions) + weight * penalty
            gradients.append(tape.gradient(total, once.base_model.trainable_variables[0]))
        expected = once.base_model.get_weights()[0] - 0.1 * (gradients[0] + gradients[1]) / 2
        self.assertAllClose(change(2, 2), expected, atol=1e-5)


class TracedOnceTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("sgd", "float32", False),
        ("adam", "float32", True),
        ("sgd", "mixed_float16", True),
        ("adam", "mixed_float16", False),
    )
    def test_a_new_models_steps(self, optimizer, policy, one_hot):
        traced = []

        class Traced(fr.FlowRegularizedModel):
            def train_step(self, data):
                traced.append("training")
                return super().train_step(data)

            def test_step(self, data):
                traced.append("validation")
                return super().test_step(data)

        keras.mixed_precision.set_global_policy(policy)
        try:
            model = Traced(testing.network(), fr.FlowGradientRegularizer(1.0))
        finally:
            keras.mixed_precision.set_global_policy("float32")
        loss = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
        model.compile(optimizer, loss(from_logits=True), metrics=["accuracy"], weighted_metrics=["accuracy"])
        images, labels = testing.data(32)
        labels = np.eye(testing.CLASSES, dtype="float32")[labels] if one_hot else labels
        model.fit(images, labels, batch_size=16, epochs=2, validation_data=(images, labels), verbose=0)
        self.assertEqual(traced, ["training", "validation"])


class OptimizersTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(name=["SGD", "Adam"], mixed=[False, True])
    def test_legacy_optimizers(self, name, mixed):
        if compat.KERAS_3:
            self.skipTest("Keras 3 has no legacy optimizers.")
        legacy = getattr(keras.optimizers.legacy, name)
        keras.mixed_precision.set_global_policy("mixed_float16" if mixed else "float32")
        try:
            model = testing.regularized(testing.network(), weight=0.0, optimizer=legacy(0.01))
            plain = testing.network()
        finally:
            keras.mixed_precision.set_global_policy("float32")
        plain.compile(legacy(0.01), testing.cross_entropy())
        self.assertAllClose(testing.fit(model, epochs=2)["loss"], testing.fit(plain, epochs=2)["loss"], rtol=2e-2)

    @parameterized.parameters("AdamW", "LAMB")
    def test_optimizers_of_tensorflow_addons(self, name):
        if compat.KERAS_3:
            self.skipTest("TensorFlow Addons cannot be imported beside Keras 3.")
        import tensorflow_addons as tfa

        options = {"weight_decay": 1e-4} if name == "AdamW" else {}
        model = testing.regularized(optimizer=getattr(tfa.optimizers, name)(learning_rate=0.01, **options))
        loss = testing.fit(model, epochs=4)["loss"]
        self.assertLess(loss[-1], loss[0])


class ToolsTest(tf.test.TestCase):
    def test_inputs_and_outputs_are_the_classifiers(self):
        model = testing.regularized()
        # What Grad-CAM does.
        convolution = model.base_model.layers[0].output
        both = keras.Model(model.inputs, [convolution, model.outputs[0]])
        images, _ = testing.data(4)
        self.assertAllClose(both(images)[1], model(images), atol=1e-6)

    def test_channels_first(self):
        first = keras.Sequential(
            [
                keras.layers.Input((3, 8, 8)),
                keras.layers.Conv2D(4, 3, data_format="channels_first"),
                keras.layers.Flatten(),
                keras.layers.Dense(4),
            ]
        )
        with self.assertRaisesRegex(
            ValueError, "Expected `base_model` to take images whose channels come last.*Permute"
        ):
            fr.FlowRegularizedModel(first)
        permuted = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Permute((3, 1, 2)), *first.layers])
        fr.FlowRegularizedModel(permuted)

    def test_labels_of_unknown_rank(self):
        images, labels = testing.data(16)

        def batches():
            yield images, np.eye(testing.CLASSES)[labels]

        signature = tf.TensorSpec([None, *testing.SHAPE]), tf.TensorSpec(None)
        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        attack = fr.attacks.FlowPGD(0.2, steps=2)
        model = fr.FlowRegularizedModel(testing.network(), fr.FlowGradientRegularizer(1.0), attack)
        model.compile(keras.optimizers.SGD(0.0), keras.losses.CategoricalCrossentropy(from_logits=True))
        history = model.fit(dataset, verbose=0).history
        expected = model.evaluate(images, np.eye(testing.CLASSES)[labels], verbose=0, return_dict=True)
        self.assertGreater(history["task_loss"][0], expected["task_loss"])

    def test_images_of_another_precision_than_the_model(self):
        images, labels = testing.data(16)
        for method in ("exact", "finite_difference"):
            model = testing.regularized(method=method)
            model.fit(images.astype("float64"), labels, batch_size=16, verbose=0)
        for attack in (
            fr.attacks.FlowPGD(0.3, steps=2),
            fr.attacks.FlowSquare(0.3, queries=4),
            fr.attacks.ADef(steps=2),
        ):
            doubled = attack.run(images.astype("float64"), labels, model=model)
            self.assertAllClose(doubled.clean_loss, attack.run(images, labels, model=model).clean_loss, rtol=1e-5)


if __name__ == "__main__":
    tf.test.main()

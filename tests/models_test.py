"""Tests of FlowRegularizedModel under compile, fit, evaluate and predict."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from tests import testing


class TrainingTest(tf.test.TestCase, parameterized.TestCase):
    def test_one_step_is_gradient_descent_on_the_total_loss(self):
        images, labels = testing.data(16)
        model = testing.regularized(weight=3.0, lattice="forward")
        before = model.base_model.get_weights()
        with tf.GradientTape() as tape:
            predictions, penalty = model.regularizer(model.base_model, images, labels, testing.cross_entropy())
            total = testing.cross_entropy()(labels, predictions) + 3.0 * penalty
        gradients = tape.gradient(total, model.base_model.trainable_variables)
        history = testing.fit(model, size=16)
        for old, new, gradient in zip(before, model.base_model.get_weights(), gradients):
            self.assertAllClose(new, old - 0.1 * gradient, atol=1e-6)
        self.assertAllClose(history["loss"], [total], rtol=1e-5)
        self.assertAllClose(history["gradient_penalty"], [penalty], rtol=1e-5)

    @parameterized.product(random_start=[0.0, 0.5], layer=["BatchNormalization", "Dropout"])
    def test_weight_zero_is_plain_training(self, random_start, layer):
        def base():
            return testing.network(
                *{
                    "BatchNormalization": [keras.layers.BatchNormalization()],
                    "Dropout": [keras.layers.Dropout(0.5, seed=3)],
                }[layer]
            )

        plain = base()
        plain.compile(keras.optimizers.SGD(0.1, momentum=0.9), testing.cross_entropy(), metrics=["accuracy"])
        # Keras 2's dropout draws with each trace. TensorFlow traces a step that makes variables once more.
        compat.build_optimizer(plain.optimizer, plain.trainable_variables)
        compat.build_metrics(plain, tf.TensorSpec([None], tf.int64), compat.symbolic_output(plain))
        expected = testing.fit(plain, epochs=2)
        model = testing.regularized(
            base(), weight=0.0, random_start=random_start, optimizer=keras.optimizers.SGD(0.1, momentum=0.9)
        )
        history = testing.fit(model, epochs=2)
        self.assertAllClose(history["loss"], expected["loss"], rtol=1e-5)
        self.assertAllClose(history["task_loss"], expected["loss"], rtol=1e-5)
        self.assertAllClose(history["accuracy"], expected["accuracy"])
        for ours, theirs in zip(model.base_model.get_weights(), plain.get_weights()):
            self.assertAllClose(ours, theirs, atol=1e-5)

    def test_without_a_regularizer_it_is_plain_training(self):
        model = fr.FlowRegularizedModel(testing.network())
        model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
        plain = testing.network()
        plain.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
        self.assertAllClose(testing.fit(model)["loss"], testing.fit(plain)["loss"], rtol=1e-6)
        self.assertAllClose(model.base_model.get_weights()[0], plain.get_weights()[0], atol=1e-6)
        self.assertNotIn("gradient_penalty", testing.fit(model))

    def test_a_loss_by_the_name_of_the_output(self):
        inputs = keras.Input(testing.SHAPE)
        base = keras.Model(inputs, keras.layers.Dense(testing.CLASSES, name="end")(keras.layers.Flatten()(inputs)))
        model = fr.FlowRegularizedModel(base)
        model.compile("sgd", {"end": testing.cross_entropy()}, metrics={"end": ["accuracy"]})
        self.assertTrue(np.isfinite(model.fit(*testing.data(4), verbose=0).history["loss"][0]))

    def test_training_lowers_the_penalty(self):
        history = testing.fit(testing.regularized(weight=10.0), epochs=8)
        plain = testing.fit(testing.regularized(weight=0.0), epochs=8)
        self.assertLess(history["gradient_penalty"][-1], 0.3 * plain["gradient_penalty"][-1])

    def test_penalty_does_not_change_with_batch_size_or_reduction(self):
        images, labels = testing.data()
        model = testing.regularized()
        reference = model.evaluate(images, labels, batch_size=48, verbose=0, return_dict=True)
        for batch_size in (5, 16):
            logs = model.evaluate(images, labels, batch_size=batch_size, verbose=0, return_dict=True)
            self.assertAllClose(logs["gradient_penalty"], reference["gradient_penalty"], rtol=1e-5)
            self.assertAllClose(logs["loss"], reference["loss"], rtol=1e-5)
        summed = testing.regularized(compile_loss=testing.cross_entropy(reduction="sum"))
        logs = summed.evaluate(images, labels, batch_size=16, verbose=0, return_dict=True)
        self.assertAllClose(logs["gradient_penalty"], reference["gradient_penalty"], rtol=1e-5)

    def test_steps_per_execution(self):
        one = testing.regularized(random_start=0.2)
        three = testing.regularized(random_start=0.2, compile_options={"steps_per_execution": 3})
        self.assertAllClose(testing.fit(one, epochs=2)["loss"], testing.fit(three, epochs=2)["loss"], rtol=1e-5)
        self.assertAllClose(one.base_model.get_weights()[0], three.base_model.get_weights()[0], atol=1e-6)

    def test_random_start_repeats_with_the_seed(self):
        def history(seed):
            model = fr.FlowRegularizedModel(
                testing.network(), fr.FlowGradientRegularizer(1.0, random_start=0.5), seed=seed
            )
            model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
            return testing.fit(model, epochs=2)["gradient_penalty"]

        self.assertAllEqual(history(0), history(0))
        self.assertNotAllClose(history(0), history(1))

    def test_logs(self):
        images, labels = testing.data()
        model = testing.regularized(random_start=0.2)
        history = testing.fit(model, validation_data=(images, labels))
        names = ["loss", "task_loss", "gradient_penalty", "accuracy"]
        self.assertCountEqual(history, names + [f"val_{name}" for name in names])
        self.assertAllClose(
            history["val_loss"][0], history["val_task_loss"][0] + history["val_gradient_penalty"][0], rtol=1e-5
        )
        logs = model.evaluate(images, labels, verbose=0, return_dict=True)
        self.assertCountEqual(logs, names)
        self.assertAllClose(history["val_gradient_penalty"][0], logs["gradient_penalty"], rtol=1e-5)
        listed = model.evaluate(images, labels, verbose=0)
        self.assertCountEqual(listed, logs.values())

    def test_regularization_losses_belong_to_the_task(self):
        images, labels = testing.data()
        kernel_regularizer = keras.regularizers.L2(0.1)
        base = keras.Sequential(
            [
                keras.layers.Input(testing.SHAPE),
                keras.layers.Flatten(),
                keras.layers.Dense(testing.CLASSES, kernel_regularizer=kernel_regularizer),
            ]
        )
        model = testing.regularized(base)
        logs = model.evaluate(images, labels, verbose=0, return_dict=True)
        expected = testing.cross_entropy()(labels, base(images)) + 0.1 * np.sum(np.square(base.get_weights()[0]))
        self.assertAllClose(logs["task_loss"], expected, rtol=1e-5)
        self.assertAllClose(logs["loss"], expected + logs["gradient_penalty"], rtol=1e-5)

    def test_class_and_sample_weights(self):
        images, labels = testing.data(16)
        class_weight = {0: 0.0, 1: 1.0, 2: 2.0, 3: 0.5}
        by_class, by_sample = testing.regularized(), testing.regularized()
        by_class.fit(images, labels, class_weight=class_weight, batch_size=16, shuffle=False, verbose=0)
        sample_weight = np.array([class_weight[label] for label in labels], "float32")
        by_sample.fit(images, labels, sample_weight=sample_weight, batch_size=16, shuffle=False, verbose=0)
        unweighted = testing.regularized()
        testing.fit(unweighted, size=16)
        weights = [model.base_model.get_weights()[0] for model in (by_class, by_sample, unweighted)]
        self.assertAllClose(weights[0], weights[1], atol=1e-6)
        self.assertNotAllClose(weights[0], weights[2], atol=1e-4)

    @parameterized.parameters(
        "sparse_categorical_crossentropy", "categorical_crossentropy", "kl_divergence", "mean_squared_error"
    )
    def test_losses(self, name):
        images, labels = testing.data()
        base = keras.Sequential([*testing.network().layers, keras.layers.Softmax()])
        model = testing.regularized(base, compile_loss=name)
        labels = labels if name.startswith("sparse") else np.eye(testing.CLASSES, dtype="float32")[labels]
        history = model.fit(images, labels, epochs=4, batch_size=16, verbose=0).history
        self.assertLess(history["loss"][-1], history["loss"][0])
        self.assertAllGreater(history["gradient_penalty"], 0)

    @parameterized.parameters("BatchNormalization", "Dropout", "MaxPooling2D", "DepthwiseConv2D", "AveragePooling2D")
    def test_layers_with_second_derivatives(self, name):
        arguments = {"Dropout": 0.2, "MaxPooling2D": 2, "DepthwiseConv2D": 3, "AveragePooling2D": 2}
        layers = keras.layers
        layer = getattr(layers, name)(*([arguments[name]] if name in arguments else []))
        model = testing.regularized(testing.network(layer, layers.Conv2D(3, 2, activation="tanh")))
        history = testing.fit(model, epochs=3)
        self.assertAllGreater(history["gradient_penalty"], 0)
        self.assertTrue(all(np.isfinite(weights).all() for weights in model.get_weights()))

    @parameterized.parameters(1, 2)
    def test_normalization_is_exact(self, penalty_every):
        def step(normalization):
            keras.utils.set_random_seed(0)
            base = testing.network(keras.layers.Conv2D(3, 3), normalization(), keras.layers.MaxPooling2D())
            before = base.get_weights()
            model = testing.regularized(base, weight=0.5, random_start=0.2, penalty_every=penalty_every)
            logs = testing.fit(model, size=16)
            return logs, [new - old for new, old in zip(base.get_weights(), before)]

        ours, changes = step(keras.layers.BatchNormalization)
        theirs, expected = step(testing.DefinedNormalization)
        self.assertAllClose(ours["gradient_penalty"], theirs["gradient_penalty"], rtol=1e-4)
        for our, their in zip(changes, expected):
            # The bias before the normalization has no effect, and so rounding for its derivative.
            self.assertLess(np.linalg.norm(our - their), 1e-4 * (np.linalg.norm(their) + 1))

    def test_subclassed_base_model(self):
        images, labels = testing.data()
        model = testing.regularized(testing.Subclassed())
        history = testing.fit(model, epochs=3)
        self.assertLess(history["loss"][-1], history["loss"][0])
        self.assertAllClose(model.predict(images, verbose=0), model.base_model(images), atol=1e-5)
        # The functions that take any model hand no `training` to one that does not know it.
        self.assertAllClose(fr.flow_gradients(model.base_model, images, labels, model.loss),
                            fr.flow_gradients(model, images, labels))  # fmt: skip

    def test_functional_base_model(self):
        inputs = keras.Input(testing.SHAPE)
        outputs = keras.layers.Dense(testing.CLASSES)(keras.layers.Flatten()(inputs))
        history = testing.fit(testing.regularized(keras.Model(inputs, outputs)), epochs=3)
        self.assertLess(history["loss"][-1], history["loss"][0])

    def test_gradient_clipping(self):
        model = testing.regularized(weight=100.0, optimizer=keras.optimizers.SGD(1.0, global_clipnorm=0.01))
        before = model.base_model.get_weights()
        testing.fit(model, size=16)
        moved = [new - old for new, old in zip(model.base_model.get_weights(), before)]
        self.assertAllClose(np.sqrt(sum(np.sum(m**2) for m in moved)), 0.01, rtol=1e-3)

    def test_half_precision_where_a_layer_mixes_the_examples(self):
        found = {}
        for policy in ("float32", "mixed_float16"):
            keras.mixed_precision.set_global_policy(policy)
            try:
                layers = keras.layers.BatchNormalization(), keras.layers.ReLU()
                network = testing.network(*layers)
            finally:
                keras.mixed_precision.set_global_policy("float32")
            network.set_weights([4 * weights for weights in network.get_weights()])
            images, _ = testing.data(8)
            labels = np.array([1, *np.argmax(network(images, training=True), axis=1)[1:]])
            found[policy] = fr.input_gradients(network, images, labels, testing.cross_entropy(), training=True).numpy()
        sizes = np.linalg.norm(found["float32"].reshape(8, -1), axis=1)
        errors = np.linalg.norm((found["mixed_float16"] - found["float32"]).reshape(8, -1), axis=1)
        self.assertGreater(sizes.max(), 10 * sizes.min())
        self.assertAllLessEqual(errors / sizes, 0.1)

    @parameterized.parameters("mixed_float16", "mixed_bfloat16")
    def test_mixed_precision_follows_full_precision(self, policy):
        images, labels = testing.data()
        expected = testing.regularized()
        testing.fit(expected, epochs=2)
        optimizer = keras.optimizers.SGD(0.1)
        if policy == "mixed_float16":
            optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
        model = testing.regularized(testing.network(dtype=policy), optimizer=optimizer)
        history = testing.fit(model, epochs=2)
        self.assertEqual(model.base_model.layers[0].compute_dtype, policy.replace("mixed_", ""))
        self.assertAllEqual(np.isfinite(history["loss"]), [True, True])
        for ours, theirs in zip(model.base_model.get_weights(), expected.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=2e-2)
        # The scale of the loss leaves the weights' gradients: they moved, and not by thousands.
        self.assertNotAllClose(model.base_model.get_weights()[0], testing.network().get_weights()[0], atol=1e-4)

    def test_global_mixed_precision_policy(self):
        keras.mixed_precision.set_global_policy("mixed_float16")
        self.addCleanup(keras.mixed_precision.set_global_policy, "float32")
        model = testing.regularized(testing.network())
        history = testing.fit(model, epochs=4)
        self.assertLess(history["loss"][-1], history["loss"][0])
        self.assertEqual(model.penalty_scale.dtype, tf.float32)

    def test_adversarial_training_trains_on_the_attacks_images(self):
        images, labels = testing.data(16)
        base = testing.network()
        attack = fr.attacks.FlowPGD(epsilon=0.5, steps=3, start="zero")
        model = fr.FlowRegularizedModel(base, attack=attack)
        model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
        # Training goes on to raise the loss of an example that is fooled.
        adversarial = attack(images, labels, model=model, stop_when_fooled=False)
        expected = testing.cross_entropy()(labels, base(adversarial))
        self.assertGreater(expected, testing.cross_entropy()(labels, base(images)))
        self.assertAllClose(testing.fit(model, size=16)["loss"], [expected], rtol=1e-5)

    def test_training_attacks_the_loss_that_is_compiled_last(self):
        images, labels = testing.data(16)
        one_hot = np.eye(testing.CLASSES, dtype="float32")[labels]
        attack = fr.attacks.FlowPGD(epsilon=0.5, steps=3, start="zero")
        model = fr.FlowRegularizedModel(testing.network(), attack=attack)
        configuration = model.get_config()["attack"]
        for loss in (keras.losses.CategoricalCrossentropy(from_logits=True), keras.losses.MeanSquaredError()):
            model.compile(keras.optimizers.SGD(0.0), loss)
            adversarial = attack(images, one_hot, model=model, stop_when_fooled=False)
            alone = attack.replace(loss=loss)(images, one_hot, model=model.base_model, stop_when_fooled=False)
            self.assertAllEqual(adversarial, alone)
            logged = model.fit(images, one_hot, batch_size=16, shuffle=False, verbose=0).history["loss"]
            self.assertAllClose(logged, [loss(one_hot, model.base_model(adversarial))], rtol=1e-5)
            self.assertEqual(model.get_config()["attack"], configuration)

    def test_a_frozen_model_trains_as_keras_does(self):
        base = testing.network(keras.layers.BatchNormalization())
        base.trainable = False
        before = base.get_weights()
        history = testing.fit(testing.regularized(base), epochs=2)
        self.assertAllEqual(np.isfinite(history["loss"]), [True, True])
        for ours, theirs in zip(base.get_weights(), before):
            self.assertAllEqual(ours, theirs)

    def test_kernel_constraints(self):
        convolution = keras.layers.Conv2D(4, 3, kernel_constraint=keras.constraints.MaxNorm(0.5, axis=[0, 1, 2]))
        history = testing.fit(testing.regularized(testing.network(convolution)), epochs=3)
        self.assertLess(history["loss"][-1], history["loss"][0])
        norms = np.linalg.norm(np.reshape(convolution.get_weights()[0], [-1, 4]), axis=0)
        self.assertAllLessEqual(norms, 0.5 + 1e-5)

    def test_spectral_normalization(self):
        base = testing.network(keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3)))
        # Keras 2's layer asks for a tensor's truth, and trains in eager mode only, in any model.
        history = testing.fit(testing.regularized(base, compile_options={"run_eagerly": not compat.KERAS_3}), epochs=3)
        self.assertLess(history["loss"][-1], history["loss"][0])

    def test_penalty_in_every_second_step_with_twice_its_weight(self):
        def weights_after(steps, **options):
            model = testing.regularized(testing.network(keras.layers.BatchNormalization()), **options)
            for regularizer_weight in steps:
                model.penalty_scale.assign(regularizer_weight / model.regularizer.weight)
                model.train_on_batch(*testing.data(16))
            return model.base_model.get_weights()

        # The first and the third have twice the weight, the second and the fourth none.
        expected = weights_after([2.0, 0.0, 2.0, 0.0])
        actual = weights_after([1.0] * 4, penalty_every=2)
        for ours, theirs in zip(actual, expected):
            self.assertAllClose(ours, theirs, atol=1e-5)
        self.assertNotAllClose(actual[0], weights_after([1.0] * 4)[0], atol=1e-4)

    def test_the_logged_penalty_is_that_of_the_steps_that_have_one(self):
        model = testing.regularized(penalty_every=3, optimizer=keras.optimizers.SGD(0.0))
        images, labels = testing.data()
        penalties = [model.regularizer(model, images[i : i + 16], labels[i : i + 16])[1] for i in (0, 16, 32)]
        self.assertAllClose(testing.fit(model)["gradient_penalty"], [penalties[0]], rtol=1e-5)
        self.assertAllClose(
            model.evaluate(images, labels, verbose=0, return_dict=True)["gradient_penalty"],
            np.mean(penalties),
            rtol=1e-5,
        )

    def test_batches_as_dictionaries_are_refused_with_what_gives_pairs(self):
        images, labels = testing.data(16)
        batches = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}).batch(16)
        with self.assertRaisesRegex(ValueError, "Received no labels: .*as_supervised=True"):
            testing.regularized().fit(batches, verbose=0)

    def test_nothing_is_traced_again_between_steps_with_and_without_a_penalty(self):
        traces = []

        class Counted(fr.FlowRegularizedModel):
            def train_step(self, batch):
                traces.append(1)
                return super().train_step(batch)

        model = Counted(testing.network(), fr.FlowGradientRegularizer(1.0, fraction=0.5), penalty_every=2)
        model.compile("sgd", testing.cross_entropy())
        testing.fit(model, size=40)
        once = len(traces)
        testing.fit(model, size=40, epochs=3)
        self.assertLen(traces, once)

    def test_a_part_of_each_batch_stays_clean(self):
        images, labels = testing.data(16)
        base = testing.network()
        attack = fr.attacks.FlowPGD(0.5, steps=3, start="zero")
        model = fr.FlowRegularizedModel(base, attack=attack, clean_fraction=0.25)
        model.compile(keras.optimizers.SGD(0.0), testing.cross_entropy())
        adversarial = attack(images[4:], labels[4:], model=model, stop_when_fooled=False)
        expected = testing.cross_entropy()(labels, base(tf.concat([images[:4], adversarial], axis=0)))
        self.assertAllClose(testing.fit(model, size=16)["loss"], [expected], rtol=1e-5)

    @parameterized.parameters(
        (fr.FlowGradientRegularizer, fr.attacks.IntensityPGD),
        (fr.InputGradientRegularizer, fr.attacks.FlowFrankWolfe),
        (fr.FlowGradientRegularizer, fr.attacks.ADef),
    )
    def test_any_regularizer_with_any_attack(self, regularizer, attack):
        base = testing.network()
        model = fr.FlowRegularizedModel(base, regularizer(0.5), attack(0.2, steps=2), clean_fraction=0.5)
        model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy())
        history = testing.fit(model, size=40, epochs=4)
        self.assertLess(history["task_loss"][-1], history["task_loss"][0])

    def test_adversarial_training_with_a_regularizer_and_a_dataset(self):
        base = testing.network()
        attack = fr.attacks.FlowPGD(epsilon=0.3, steps=2)
        model = fr.FlowRegularizedModel(base, fr.FlowGradientRegularizer(0.5), attack)
        model.compile(keras.optimizers.SGD(0.1), testing.cross_entropy(), metrics=["accuracy"])
        dataset = tf.data.Dataset.from_tensor_slices(testing.data(40)).batch(16)
        history = model.fit(dataset, epochs=4, verbose=0).history
        self.assertLess(history["loss"][-1], history["loss"][0])


class BadInputTest(tf.test.TestCase):
    def test_base_models(self):
        with self.assertRaisesRegex(TypeError, "Expected `base_model` to be a keras.Model. Received .*lambda"):
            fr.FlowRegularizedModel(lambda x: x)
        inputs = [keras.Input(testing.SHAPE), keras.Input(testing.SHAPE)]
        several = keras.Model(inputs, keras.layers.Add()(inputs))
        with self.assertRaisesRegex(ValueError, "Received a model with 2 inputs"):
            fr.FlowRegularizedModel(several)
        several = keras.Model(inputs[0], [keras.layers.Flatten()(inputs[0])] * 2)
        with self.assertRaisesRegex(ValueError, "Received a model with 2 outputs"):
            fr.FlowRegularizedModel(several)

    def test_parts(self):
        with self.assertRaisesRegex(TypeError, "Expected `regularizer` to be a Regularizer. Received 4.4"):
            fr.FlowRegularizedModel(testing.network(), 4.4)
        with self.assertRaisesRegex(TypeError, "Expected `attack`.*Attack. Received 'pgd'"):
            fr.FlowRegularizedModel(testing.network(), attack="pgd")
        with self.assertRaisesRegex(ValueError, "Expected an untargeted attack"):
            fr.FlowRegularizedModel(testing.network(), attack=fr.attacks.FlowFGSM(0.1, targeted=True))
        with self.assertRaisesRegex(ValueError, "Expected `penalty_every` to be a whole number of at least 1"):
            fr.FlowRegularizedModel(testing.network(), penalty_every=0)
        with self.assertRaisesRegex(ValueError, "Expected `clean_fraction` to be less than 1. Received 1"):
            fr.FlowRegularizedModel(testing.network(), clean_fraction=1)

    def test_a_regularizer_without_a_weight(self):
        class Weightless(fr.Regularizer):
            def __call__(self, model, images, labels, loss=None, **options):
                return model(images), tf.reduce_mean(images)

        model = fr.FlowRegularizedModel(testing.network(), Weightless())
        model.compile("sgd", testing.cross_entropy())
        with self.assertRaisesRegex(AttributeError, "'Weightless' object has no attribute 'weight'"):
            testing.fit(model)

    def test_images_and_labels(self):
        images, labels = testing.data()
        with self.assertRaisesRegex(ValueError, r"Expected `images` .*\[batch, height, width, channels\]"):
            testing.regularized().fit(images[..., 0], labels, verbose=0)
        with self.assertRaisesRegex(ValueError, "Expected images with labels"):
            testing.regularized().fit(images, verbose=0)

    def test_integer_images_train_as_their_values(self):
        images, labels = testing.data()
        integers = (20 * images).astype("uint8")
        ours, theirs = testing.regularized(), testing.regularized()
        ours.fit(integers, labels, shuffle=False, verbose=0)
        theirs.fit(integers.astype("float32"), labels, shuffle=False, verbose=0)
        self.assertAllClose(ours.base_model.get_weights()[0], theirs.base_model.get_weights()[0], atol=1e-6)

    def test_operation_without_a_second_derivative_is_named(self):
        class LocalResponse(keras.layers.Layer):
            def call(self, inputs):
                return tf.nn.local_response_normalization(inputs)

        with self.assertRaisesRegex(ValueError, "second derivative.*LRNGrad.*method='finite_difference'"):
            testing.fit(testing.regularized(testing.network(LocalResponse())))
        history = testing.fit(
            testing.regularized(testing.network(LocalResponse()), method="finite_difference"), epochs=4
        )
        self.assertLess(history["loss"][-1], history["loss"][0])


if __name__ == "__main__":
    tf.test.main()

"""Tests of FlowRegularizedModel under compile, fit, evaluate and predict."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr

SHAPE, CLASSES, EXAMPLES = (8, 10, 2), 4, 48


def data(size=EXAMPLES):
    random = np.random.RandomState(0)
    return random.rand(size, *SHAPE).astype("float32"), random.randint(0, CLASSES, size)


def cross_entropy(**options):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def network(*extra_layers, dtype=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.layers.Input(SHAPE),
            keras.layers.Conv2D(6, 3, activation="relu", dtype=dtype),
            *extra_layers,
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES, dtype="float32"),
        ]
    )


class DefinedNormalization(keras.layers.BatchNormalization):
    """Batch normalization as it is defined, for autodifferentiation; Keras's own holds the mean fixed."""

    def call(self, inputs, training=None):
        mean = tf.reduce_mean(inputs, axis=[0, 1, 2])
        variance = tf.reduce_mean(tf.square(inputs - mean), axis=[0, 1, 2])
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * tf.convert_to_tensor(moving) + (1 - self.momentum) * new)
        normalized = (inputs - mean) / tf.sqrt(variance + self.epsilon)
        return tf.convert_to_tensor(self.gamma) * normalized + tf.convert_to_tensor(self.beta)


class Subclassed(keras.Model):
    """A base model whose `call` does not know of training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = keras.layers.Flatten()
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, images):
        return self.dense(self.flatten(images))


def regularized(base=None, weight=1.0, optimizer=None, compile_loss=None, compile_options=None, **options):
    model = fr.FlowRegularizedModel(base or network(), fr.FlowGradientRegularizer(weight, **options))
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    model.compile(optimizer, compile_loss or cross_entropy(), metrics=["accuracy"], **(compile_options or {}))
    return model


def fit(model, *, batch_size=16, epochs=1, size=EXAMPLES, **options):
    images, labels = data(size)
    return model.fit(images, labels, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, **options).history


class TrainingTest(tf.test.TestCase, parameterized.TestCase):
    def test_one_step_is_gradient_descent_on_the_total_loss(self):
        images, labels = data(16)
        model = regularized(weight=3.0, lattice="forward")
        before = model.base_model.get_weights()
        with tf.GradientTape() as tape:
            predictions, penalty = model.regularizer(model.base_model, images, labels, cross_entropy())
            total = cross_entropy()(labels, predictions) + 3.0 * penalty
        gradients = tape.gradient(total, model.base_model.trainable_variables)
        history = fit(model, size=16)
        for old, new, gradient in zip(before, model.base_model.get_weights(), gradients):
            self.assertAllClose(new, old - 0.1 * gradient, atol=1e-6)
        self.assertAllClose(history["loss"], [total], rtol=1e-5)
        self.assertAllClose(history["gradient_penalty"], [penalty], rtol=1e-5)

    @parameterized.product(random_start=[0.0, 0.5], layer=["none", "BatchNormalization", "Dropout"])
    def test_weight_zero_is_plain_training(self, random_start, layer):
        def base():
            return network(
                *{
                    "none": [],
                    "BatchNormalization": [keras.layers.BatchNormalization()],
                    "Dropout": [keras.layers.Dropout(0.5, seed=3)],
                }[layer]
            )

        plain = base()
        plain.compile(keras.optimizers.SGD(0.1, momentum=0.9), cross_entropy(), metrics=["accuracy"])
        expected = fit(plain, epochs=2)
        model = regularized(
            base(), weight=0.0, random_start=random_start, optimizer=keras.optimizers.SGD(0.1, momentum=0.9)
        )
        history = fit(model, epochs=2)
        self.assertAllClose(history["loss"], expected["loss"], rtol=1e-5)
        self.assertAllClose(history["task_loss"], expected["loss"], rtol=1e-5)
        self.assertAllClose(history["accuracy"], expected["accuracy"])
        for ours, theirs in zip(model.base_model.get_weights(), plain.get_weights()):
            self.assertAllClose(ours, theirs, atol=1e-5)

    def test_without_a_regularizer_it_is_plain_training(self):
        model = fr.FlowRegularizedModel(network())
        model.compile(keras.optimizers.SGD(0.1), cross_entropy())
        plain = network()
        plain.compile(keras.optimizers.SGD(0.1), cross_entropy())
        self.assertAllClose(fit(model)["loss"], fit(plain)["loss"], rtol=1e-6)
        self.assertAllClose(model.base_model.get_weights()[0], plain.get_weights()[0], atol=1e-6)
        self.assertNotIn("gradient_penalty", fit(model))

    def test_training_lowers_the_penalty(self):
        history = fit(regularized(weight=10.0), epochs=8)
        plain = fit(regularized(weight=0.0), epochs=8)
        self.assertLess(history["gradient_penalty"][-1], 0.3 * plain["gradient_penalty"][-1])

    def test_penalty_does_not_change_with_batch_size_or_reduction(self):
        images, labels = data()
        model = regularized()
        reference = model.evaluate(images, labels, batch_size=48, verbose=0, return_dict=True)
        for batch_size in (5, 16):
            logs = model.evaluate(images, labels, batch_size=batch_size, verbose=0, return_dict=True)
            self.assertAllClose(logs["gradient_penalty"], reference["gradient_penalty"], rtol=1e-5)
            self.assertAllClose(logs["loss"], reference["loss"], rtol=1e-5)
        summed = regularized(compile_loss=cross_entropy(reduction="sum"))
        logs = summed.evaluate(images, labels, batch_size=16, verbose=0, return_dict=True)
        self.assertAllClose(logs["gradient_penalty"], reference["gradient_penalty"], rtol=1e-5)

    def test_steps_per_execution(self):
        one = regularized(random_start=0.2)
        three = regularized(random_start=0.2, compile_options={"steps_per_execution": 3})
        self.assertAllClose(fit(one, epochs=2)["loss"], fit(three, epochs=2)["loss"], rtol=1e-5)
        self.assertAllClose(one.base_model.get_weights()[0], three.base_model.get_weights()[0], atol=1e-6)

    def test_random_start_repeats_with_the_seed(self):
        def history(seed):
            model = fr.FlowRegularizedModel(network(), fr.FlowGradientRegularizer(1.0, random_start=0.5), seed=seed)
            model.compile(keras.optimizers.SGD(0.1), cross_entropy())
            return fit(model, epochs=2)["gradient_penalty"]

        self.assertAllEqual(history(0), history(0))
        self.assertNotAllClose(history(0), history(1))

    def test_logs(self):
        images, labels = data()
        model = regularized(random_start=0.2)
        history = fit(model, validation_data=(images, labels))
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
        images, labels = data()
        kernel_regularizer = keras.regularizers.L2(0.1)
        base = keras.Sequential(
            [
                keras.layers.Input(SHAPE),
                keras.layers.Flatten(),
                keras.layers.Dense(CLASSES, kernel_regularizer=kernel_regularizer),
            ]
        )
        model = regularized(base)
        logs = model.evaluate(images, labels, verbose=0, return_dict=True)
        expected = cross_entropy()(labels, base(images)) + 0.1 * np.sum(np.square(base.get_weights()[0]))
        self.assertAllClose(logs["task_loss"], expected, rtol=1e-5)
        self.assertAllClose(logs["loss"], expected + logs["gradient_penalty"], rtol=1e-5)

    def test_class_and_sample_weights(self):
        images, labels = data(16)
        class_weight = {0: 0.0, 1: 1.0, 2: 2.0, 3: 0.5}
        by_class, by_sample = regularized(), regularized()
        by_class.fit(images, labels, class_weight=class_weight, batch_size=16, shuffle=False, verbose=0)
        sample_weight = np.array([class_weight[label] for label in labels], "float32")
        by_sample.fit(images, labels, sample_weight=sample_weight, batch_size=16, shuffle=False, verbose=0)
        unweighted = regularized()
        fit(unweighted, size=16)
        weights = [model.base_model.get_weights()[0] for model in (by_class, by_sample, unweighted)]
        self.assertAllClose(weights[0], weights[1], atol=1e-6)
        self.assertNotAllClose(weights[0], weights[2], atol=1e-4)

    @parameterized.parameters(
        "sparse_categorical_crossentropy", "categorical_crossentropy", "kl_divergence", "mean_squared_error"
    )
    def test_losses(self, name):
        images, labels = data()
        base = keras.Sequential([*network().layers, keras.layers.Softmax()])
        model = regularized(base, compile_loss=name)
        labels = labels if name.startswith("sparse") else np.eye(CLASSES, dtype="float32")[labels]
        history = model.fit(images, labels, epochs=4, batch_size=16, verbose=0).history
        self.assertLess(history["loss"][-1], history["loss"][0])
        self.assertAllGreater(history["gradient_penalty"], 0)

    @parameterized.parameters("BatchNormalization", "Dropout", "MaxPooling2D", "DepthwiseConv2D", "AveragePooling2D")
    def test_layers_with_second_derivatives(self, name):
        arguments = {"Dropout": 0.2, "MaxPooling2D": 2, "DepthwiseConv2D": 3, "AveragePooling2D": 2}
        layers = keras.layers
        layer = getattr(layers, name)(*([arguments[name]] if name in arguments else []))
        model = regularized(network(layer, layers.Conv2D(3, 2, activation="tanh")))
        history = fit(model, epochs=3)
        self.assertAllGreater(history["gradient_penalty"], 0)
        self.assertTrue(all(np.isfinite(weights).all() for weights in model.get_weights()))

    @parameterized.product(every=[1, 2], pooled=[False, True])
    def test_counterparts_of_keras_layers(self, every, pooled):
        def step(normalization, pooling):
            keras.utils.set_random_seed(0)
            base = network(keras.layers.Conv2D(3, 3), normalization(), *[pooling()] * pooled)
            before = base.get_weights()
            logs = fit(regularized(base, weight=0.5, random_start=0.2, every=every), size=16)
            return logs, [new - old for new, old in zip(base.get_weights(), before)]

        ours, changes = step(fr.layers.BatchNormalization, fr.layers.MaxPooling2D)
        theirs, expected = step(DefinedNormalization, keras.layers.MaxPooling2D)
        self.assertAllClose(ours["gradient_penalty"], theirs["gradient_penalty"], rtol=1e-4)
        for our, their in zip(changes, expected):
            # The bias before the normalization has no effect, and so rounding for its derivative.
            self.assertLess(np.linalg.norm(our - their), 1e-4 * (np.linalg.norm(their) + 1))

    def test_subclassed_base_model(self):
        images, labels = data()
        model = regularized(Subclassed())
        history = fit(model, epochs=3)
        self.assertLess(history["loss"][-1], history["loss"][0])
        self.assertAllClose(model.predict(images, verbose=0), model.base_model(images), atol=1e-5)
        # The functions that take any model hand no `training` to one that does not know it.
        self.assertAllClose(fr.flow_gradients(model.base_model, images, labels, model.loss),
                            fr.flow_gradients(model, images, labels))  # fmt: skip

    def test_functional_base_model(self):
        inputs = keras.Input(SHAPE)
        outputs = keras.layers.Dense(CLASSES)(keras.layers.Flatten()(inputs))
        history = fit(regularized(keras.Model(inputs, outputs)), epochs=3)
        self.assertLess(history["loss"][-1], history["loss"][0])

    def test_gradient_clipping(self):
        model = regularized(weight=100.0, optimizer=keras.optimizers.SGD(1.0, global_clipnorm=0.01))
        before = model.base_model.get_weights()
        fit(model, size=16)
        moved = [new - old for new, old in zip(model.base_model.get_weights(), before)]
        self.assertAllClose(np.sqrt(sum(np.sum(m**2) for m in moved)), 0.01, rtol=1e-3)

    @parameterized.parameters("mixed_float16", "mixed_bfloat16")
    def test_mixed_precision_follows_full_precision(self, policy):
        images, labels = data()
        expected = regularized()
        fit(expected, epochs=2)
        optimizer = keras.optimizers.SGD(0.1)
        if policy == "mixed_float16":
            optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
        model = regularized(network(dtype=policy), optimizer=optimizer)
        history = fit(model, epochs=2)
        self.assertEqual(model.base_model.layers[0].compute_dtype, policy.replace("mixed_", ""))
        self.assertAllEqual(np.isfinite(history["loss"]), [True, True])
        for ours, theirs in zip(model.base_model.get_weights(), expected.base_model.get_weights()):
            self.assertAllClose(ours, theirs, atol=2e-2)
        # The scale of the loss leaves the weights' gradients: they moved, and not by thousands.
        self.assertNotAllClose(model.base_model.get_weights()[0], network().get_weights()[0], atol=1e-4)

    def test_global_mixed_precision_policy(self):
        keras.mixed_precision.set_global_policy("mixed_float16")
        self.addCleanup(keras.mixed_precision.set_global_policy, "float32")
        model = regularized(network())
        history = fit(model, epochs=4)
        self.assertLess(history["loss"][-1], history["loss"][0])
        self.assertEqual(model.penalty_weight.dtype, "float32")

    def test_adversarial_training_trains_on_the_attacks_images(self):
        images, labels = data(16)
        base = network()
        attack = fr.attacks.FlowPGD(base, epsilon=0.5, steps=3, random_start=False)
        model = fr.FlowRegularizedModel(base, attack=attack)
        model.compile(keras.optimizers.SGD(0.1), cross_entropy())
        attack = fr.attacks.FlowPGD(base, 0.5, 3, random_start=False, loss=cross_entropy())
        # Training goes on to raise the loss of an example that is broken.
        adversarial = attack(images, labels, stop_when_broken=False)
        expected = cross_entropy()(labels, base(adversarial))
        self.assertGreater(expected, cross_entropy()(labels, base(images)))
        self.assertAllClose(fit(model, size=16)["loss"], [expected], rtol=1e-5)

    def test_penalty_in_every_second_step_with_twice_its_weight(self):
        def weights_after(steps, **options):
            model = regularized(network(keras.layers.BatchNormalization()), **options)
            for regularizer_weight in steps:
                model.penalty_weight.assign(regularizer_weight)
                model.train_on_batch(*data(16))
            return model.base_model.get_weights()

        # The first and the third have twice the weight, the second and the fourth none.
        expected = weights_after([2.0, 0.0, 2.0, 0.0])
        actual = weights_after([1.0] * 4, every=2)
        for ours, theirs in zip(actual, expected):
            self.assertAllClose(ours, theirs, atol=1e-6)
        self.assertNotAllClose(actual[0], weights_after([1.0] * 4)[0], atol=1e-4)

    def test_the_logged_penalty_is_that_of_the_steps_that_have_one(self):
        model = regularized(every=3, optimizer=keras.optimizers.SGD(0.0))
        images, labels = data()
        penalties = [model.regularizer(model, images[i : i + 16], labels[i : i + 16])[1] for i in (0, 16, 32)]
        self.assertAllClose(fit(model)["gradient_penalty"], [penalties[0]], rtol=1e-5)
        self.assertAllClose(
            model.evaluate(images, labels, verbose=0, return_dict=True)["gradient_penalty"],
            np.mean(penalties),
            rtol=1e-5,
        )

    def test_nothing_is_traced_again_between_steps_with_and_without_a_penalty(self):
        traces = []

        class Counted(fr.FlowRegularizedModel):
            def train_step(self, batch):
                traces.append(1)
                return super().train_step(batch)

        model = Counted(network(), fr.FlowGradientRegularizer(1.0, every=2, fraction=0.5))
        model.compile("sgd", cross_entropy())
        fit(model, size=40)
        once = len(traces)
        fit(model, size=40, epochs=3)
        self.assertLen(traces, once)

    def test_a_part_of_each_batch_stays_clean(self):
        images, labels = data(16)
        base = network()
        model = fr.FlowRegularizedModel(
            base, attack=fr.attacks.FlowPGD(base, 0.5, 3, random_start=False), clean_fraction=0.25
        )
        model.compile(keras.optimizers.SGD(0.0), cross_entropy())
        adversarial = model.attack(images[4:], labels[4:], stop_when_broken=False)
        expected = cross_entropy()(labels, base(tf.concat([images[:4], adversarial], axis=0)))
        self.assertAllClose(fit(model, size=16)["loss"], [expected], rtol=1e-5)

    @parameterized.product(
        regularizer=[fr.FlowGradientRegularizer, fr.InputGradientRegularizer],
        attack=[fr.attacks.IntensityPGD, fr.attacks.FlowFrankWolfe, fr.attacks.ADef],
    )
    def test_any_regularizer_with_any_attack(self, regularizer, attack):
        base = network()
        model = fr.FlowRegularizedModel(base, regularizer(0.5), attack(base, 0.2, 2), clean_fraction=0.5)
        model.compile(keras.optimizers.SGD(0.1), cross_entropy())
        history = fit(model, size=40, epochs=4)
        self.assertLess(history["task_loss"][-1], history["task_loss"][0])

    def test_adversarial_training_with_a_regularizer_and_a_dataset(self):
        base = network()
        attack = fr.attacks.FlowPGD(base, epsilon=0.3, steps=2)
        model = fr.FlowRegularizedModel(base, fr.FlowGradientRegularizer(0.5), attack)
        model.compile(keras.optimizers.SGD(0.1), cross_entropy(), metrics=["accuracy"])
        dataset = tf.data.Dataset.from_tensor_slices(data(40)).batch(16)
        history = model.fit(dataset, epochs=4, verbose=0).history
        self.assertLess(history["loss"][-1], history["loss"][0])


class BadInputTest(tf.test.TestCase):
    def test_base_models(self):
        with self.assertRaisesRegex(TypeError, "Expected `base_model` to be a keras.Model. Received .*lambda"):
            fr.FlowRegularizedModel(lambda x: x)
        inputs = [keras.Input(SHAPE), keras.Input(SHAPE)]
        several = keras.Model(inputs, keras.layers.Add()(inputs))
        with self.assertRaisesRegex(ValueError, "Received a model with 2 inputs"):
            fr.FlowRegularizedModel(several)
        several = keras.Model(inputs[0], [keras.layers.Flatten()(inputs[0])] * 2)
        with self.assertRaisesRegex(ValueError, "Received a model with 2 outputs"):
            fr.FlowRegularizedModel(several)

    def test_parts(self):
        with self.assertRaisesRegex(TypeError, "Expected `regularizer`.*GradientRegularizer. Received 4.4"):
            fr.FlowRegularizedModel(network(), 4.4)
        with self.assertRaisesRegex(TypeError, "Expected `attack`.*Attack. Received 'pgd'"):
            fr.FlowRegularizedModel(network(), attack="pgd")
        with self.assertRaisesRegex(ValueError, "Expected an untargeted attack"):
            fr.FlowRegularizedModel(network(), attack=fr.attacks.FlowFGSM(network(), 0.1, targeted=True))
        with self.assertRaisesRegex(ValueError, "Expected `clean_fraction` to be less than 1. Received 1"):
            fr.FlowRegularizedModel(network(), clean_fraction=1)

    def test_images_and_labels(self):
        images, labels = data()
        with self.assertRaisesRegex(ValueError, r"Expected `images` .*\[batch, height, width, channels\]"):
            regularized().fit(images[..., 0], labels, verbose=0)
        with self.assertRaisesRegex(ValueError, "Expected images with labels"):
            regularized().fit(images, verbose=0)
        images[7, 2, 3, 1] = np.nan
        with self.assertRaisesRegex(Exception, "Expected finite images. Received NaN"):
            regularized().fit(images, labels, verbose=0)
        images, labels = data()
        labels[5] = CLASSES
        with self.assertRaisesRegex(Exception, "Expected labels from 0 to 3|outside the valid range"):
            regularized().fit(images, labels, verbose=0)

    def test_integer_images_train_as_their_values(self):
        images, labels = data()
        integers = (20 * images).astype("uint8")
        ours, theirs = regularized(), regularized()
        ours.fit(integers, labels, shuffle=False, verbose=0)
        theirs.fit(integers.astype("float32"), labels, shuffle=False, verbose=0)
        self.assertAllClose(ours.base_model.get_weights()[0], theirs.base_model.get_weights()[0], atol=1e-6)

    def test_operation_without_a_second_derivative_is_named(self):
        class LocalResponse(keras.layers.Layer):
            def call(self, inputs):
                return tf.nn.local_response_normalization(inputs)

        with self.assertRaisesRegex(ValueError, "second derivative.*method='finite_difference'.*LRNGrad"):
            fit(regularized(network(LocalResponse())))
        history = fit(regularized(network(LocalResponse()), method="finite_difference"), epochs=4)
        self.assertLess(history["loss"][-1], history["loss"][0])


if __name__ == "__main__":
    tf.test.main()

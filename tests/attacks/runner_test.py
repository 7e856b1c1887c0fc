"""Tests of how attacks are run: what is compiled, when, for how long it is kept, and models without a gradient."""

import gc
import weakref
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg.attacks import classifier, runner
from keras_flowreg.ops import losses
from tests import testing

EPSILON = 0.6
GRADIENT_FREE = (
    fr.attacks.FlowSquare(EPSILON, queries=10),
    fr.attacks.FlowSPSA(EPSILON, queries=20, samples=2),
    fr.attacks.RandomFlow(EPSILON, draws=3),
    fr.attacks.RotationTranslation(angles=3, shifts=3),
    fr.attacks.AutoDeform(EPSILON),
)
BY_GRADIENT = (
    fr.attacks.FlowFGSM(EPSILON),
    fr.attacks.FlowPGD(EPSILON, steps=2),
    fr.attacks.FlowFrankWolfe(EPSILON, steps=2),
    fr.attacks.ADef(steps=2),
    fr.attacks.StAdv(steps=2, searches=1),
)


def rounded(images):
    return tf.round(16 * images) / 16


def cast_to_integers(images):
    return tf.cast(tf.cast(16 * images, tf.int32), images.dtype) / 16


def decoded_from_jpeg(images):
    def compress(image):
        encoded = tf.io.encode_jpeg(tf.cast(255 * image[..., :1], tf.uint8))
        return tf.image.convert_image_dtype(
            tf.ensure_shape(tf.io.decode_jpeg(encoded), [*testing.SHAPE[:2], 1]), "float32"
        )

    return tf.tile(tf.map_fn(compress, images), [1, 1, 1, 2])


def computed_by_numpy(images):
    return tf.ensure_shape(tf.py_function(lambda x: np.round(x.numpy(), 2), [images], tf.float32), images.shape)


class Preprocessed(keras.Model):
    """A network behind a function of its images, which counts how often Python runs it."""

    def __init__(self, function=tf.identity):
        super().__init__()
        self.function, self.network, self.python_calls = function, testing.network(), 0
        self.compile("sgd", testing.cross_entropy())

    def call(self, images):
        self.python_calls += 1
        return self.network(self.function(images))


class OneWay(keras.layers.Layer):
    """The identity, through which no gradient goes back."""

    def call(self, inputs):
        @tf.custom_gradient
        def forward(images):
            def backward(upstream):
                raise NotImplementedError("no gradient here")

            return tf.identity(images), backward

        return forward(inputs)


class Counter(keras.layers.Layer):
    """Counts the images that come along."""

    def build(self, shape):
        self.images = tf.Variable(0.0, trainable=False)

    def call(self, inputs):
        self.images.assign_add(tf.cast(tf.shape(inputs)[0], tf.float32))
        return tf.identity(inputs)


class WithoutGradientTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, _ = testing.data(8)

    @parameterized.parameters(rounded, cast_to_integers, decoded_from_jpeg, computed_by_numpy)
    def test_clear_error_by_gradient(self, function):
        model = Preprocessed(function)
        labels = np.argmax(model(self.images), axis=1)
        self.assertFalse(runner.has_gradient(model, self.images))
        for attack in BY_GRADIENT:
            with self.assertRaisesRegex(ValueError, f"differentiated.* for {attack.name}.*FlowSquare"):
                attack(self.images, labels, model=model)
        self.assert_works(fr.attacks.FlowSquare(EPSILON, queries=10), model, labels)

    @parameterized.parameters(*GRADIENT_FREE)
    def test_works_without(self, attack):
        model = Preprocessed(rounded)
        self.assert_works(attack, model, np.argmax(model(self.images), axis=1))

    def assert_works(self, attack, model, labels):
        result = attack.run(self.images, labels, model=model)
        self.assertAllEqual(result.success, np.argmax(model(result.images), axis=1) != labels)

    @parameterized.parameters(True, False)
    def test_inactive_relus_have_one(self, jit_compile):
        model, images = testing.network(), np.zeros_like(self.images)
        attack = fr.attacks.FlowPGD(EPSILON, steps=2, loss="margin", jit_compile=jit_compile)
        for bias in (0.0, -1.0):  # At the kink, and far below.
            model.layers[0].bias.assign(np.full(6, bias))
            labels = np.argmax(model(images), axis=1)
            self.assertAllEqual(attack.run(images, labels, model=model).success, np.zeros(8))

    def test_what_is_wrong_with_the_loss_is_told(self):
        def scalar(labels, predictions):
            return tf.reduce_mean(testing.cross_entropy()(labels, predictions))

        attack, labels = fr.attacks.FlowPGD(EPSILON, steps=2), np.zeros(8, int)
        one = keras.Sequential([keras.Input(testing.SHAPE), keras.layers.Flatten(), keras.layers.Dense(1)])
        with self.assertRaisesRegex(ValueError, "one value for each example.*Received a scalar"):
            attack.run(self.images, labels, model=testing.network(), loss=scalar)
        with self.assertRaisesRegex(ValueError, "at least two classes.*two_class_classifier"):
            attack.run(self.images, labels, model=one, loss="margin")

    @parameterized.parameters(
        ("sparse_categorical_crossentropy", True),  # Clipped where the label's probability is 1 to float32.
        ("categorical_hinge", False),
        (keras.losses.SparseCategoricalCrossentropy(ignore_class=-1, from_logits=True), False),
    )
    def test_a_loss_that_is_flat_hides_no_gradient(self, loss, is_probability):
        images = self.images[:2]
        network = testing.network()
        network.set_weights([1e3 * weight for weight in network.get_weights()])
        labels = np.argmax(network(images), axis=1)
        model = keras.Sequential([network, *[keras.layers.Softmax()] * is_probability])
        model.compile("sgd", loss)
        if getattr(model.loss, "ignore_class", None) == -1:
            labels = -np.ones(2, int)
        elif loss == "categorical_hinge":
            labels = np.eye(testing.CLASSES, dtype="float32")[labels]
        fr.attacks.FlowPGD(EPSILON, steps=2).run(images, labels, model=model)
        attack = fr.attacks.AutoDeform(EPSILON)
        fresh = keras.models.clone_model(model)
        fresh.set_weights(model.get_weights())
        fresh.compile("sgd", loss)
        first = attack.run(images, labels, model=fresh)
        self.assertTrue(runner.has_gradient(fresh, images))
        self.assertAllEqual(attack.run(images, labels, model=fresh).queries, first.queries)

    @parameterized.parameters(None, "margin", "log_odds")
    def test_beside_an_ignored_label_others_are_attacked_as_without_it(self, loss):
        model = testing.network()
        model.compile("sgd", testing.cross_entropy(ignore_class=-1))
        attack = fr.attacks.FlowFrankWolfe(EPSILON, steps=3, loss=loss)
        labels = np.argmax(model(self.images), axis=1)
        expected = attack.run(self.images, labels, model=model)
        found = attack.run(self.images, np.where(np.arange(len(labels)) == 0, -1, labels), model=model)
        self.assertAllClose(found.images[1:], expected.images[1:])
        self.assertAllEqual(found.success[1:], expected.success[1:])
        with self.assertRaisesRegex(ValueError, "Expected labels from 0 to 3"):
            attack.run(self.images, labels - labels - 2, model=model)

    def test_a_loss_without_a_gradient(self):
        def errors(labels, predictions):
            wrong = tf.cast(tf.reshape(labels, [-1]), tf.int64) != tf.argmax(predictions, axis=1)
            return tf.cast(wrong, tf.float32)

        with self.assertRaisesRegex(ValueError, "Expected a loss that can be differentiated"):
            fr.attacks.FlowPGD(EPSILON, steps=2).run(
                self.images, np.zeros(8, "int64"), model=testing.network(), loss=errors
            )

    def test_no_search_by_queries_goes_back_through_the_model(self):
        model = keras.Sequential([keras.Input(testing.SHAPE), OneWay(), testing.network()])
        labels = np.argmax(model(self.images), axis=1)
        for attack in GRADIENT_FREE:
            self.assert_works(attack.replace(loss="margin"), model, labels)
        with self.assertRaisesRegex(ValueError, "differentiated.*FlowSquare"):
            fr.attacks.FlowPGD(EPSILON, steps=2, loss="margin").run(self.images, labels, model=model)

    def test_queries_are_runs_of_the_model(self):
        images, _ = testing.data(6)
        for attack in (fr.attacks.FlowPGD(1e-4, steps=3), fr.attacks.AutoDeform(1e-4)):  # Which fool none.
            counter = Counter()
            model = keras.Sequential([keras.Input(testing.SHAPE), counter, testing.network()])
            model.compile("sgd", testing.cross_entropy())
            labels = np.argmax(model(images), axis=1)
            attack.run(images[:1], labels[:1], model=model)  # Which probes the model.
            before = counter.images.numpy()
            result = attack.run(images, labels, model=model)
            self.assertEqual(counter.images.numpy() - before, np.sum(result.queries), attack)

    def test_an_empty_batch_does_not_tell(self):
        attack, model = fr.attacks.FlowPGD(0.4, steps=2), testing.network()
        model.compile("sgd", testing.cross_entropy())
        result = attack.run(self.images[:0], np.zeros(0, int), model=model)
        self.assertEqual(result.images.shape, self.images[:0].shape)

    def test_a_constant_or_saturated_model_has_one(self):
        model = testing.network()
        self.assertTrue(runner.has_gradient(model, self.images))
        model.set_weights([1e4 * weight for weight in model.get_weights()])
        self.assertTrue(runner.has_gradient(keras.Sequential([model, keras.layers.Softmax()]), self.images))
        model.set_weights([0 * weight for weight in model.get_weights()[:-2]] + model.get_weights()[-2:])
        self.assertTrue(
            runner.has_gradient(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]), self.images)
        )


class CompiledTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = testing.data(8)

    def test_auto_deform_traces_the_model_for_predictions_and_each_losss_gradient(self):
        model = Preprocessed()
        attack = fr.attacks.AutoDeform(0.01)
        for size in (8, 3):
            attack(self.images[:size], self.labels[:size], model=model)
        self.assertEqual(model.python_calls, 4)  # And once to probe it.

    def test_a_model_keeps_what_is_traced_for_a_few_sizes_of_images(self):
        model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D()])
        for side in range(4, 24):
            runner.traced_classifier(model, tf.zeros([1, side, 4, 1]))
        self.assertLen(runner._traces[model].kinds, runner._KEPT_KINDS)
        kept = runner.traced_classifier(model, tf.zeros([1, 23, 4, 1]))
        self.assertIs(runner.traced_classifier(model, tf.zeros([1, 23, 4, 1])), kept)

    def test_attacks_share_what_is_traced(self):
        model = Preprocessed()
        for attack in (*BY_GRADIENT, *GRADIENT_FREE[:-1]):
            for size in (8, 3, 8):
                attack(self.images[:size], self.labels[:size], model=model)
        # To probe it; predictions, the loss's gradient, and what ADef and StAdv differentiate.
        self.assertEqual(model.python_calls, 5)

    @parameterized.parameters("margin", "log_odds", "sparse_categorical_crossentropy", None)
    def test_nothing_is_compiled_twice(self, loss):
        model = Preprocessed()
        for _ in range(3):
            fr.attacks.FlowPGD(EPSILON, steps=2, loss=loss)(self.images, self.labels, model=model)
            compiled = list(runner.traced_classifier(model, self.images)._functions)
        fr.attacks.FlowPGD(EPSILON, steps=2, loss=loss)(self.images[:5], self.labels[:5], model=model)
        self.assertEqual(list(runner.traced_classifier(model, self.images)._functions), compiled)

    @parameterized.parameters(
        fr.attacks.FlowPGD(EPSILON, steps=2, step_size=0.3, norm="l2"),
        fr.attacks.FlowFrankWolfe(EPSILON, steps=2, start="random", norm="pixel_l2"),
        fr.attacks.FlowFGSM(EPSILON),
        fr.attacks.FlowSPSA(EPSILON, queries=15, samples=2),
        fr.attacks.RandomFlow(EPSILON, draws=2),
        fr.attacks.FlowSquare(EPSILON, queries=5),
        fr.attacks.IntensityPGD(EPSILON, steps=2),
        fr.attacks.ADef(EPSILON, steps=2),
    )
    def test_attacks_that_differ_in_numbers_and_seed_share_a_search(self, attack):
        model = Preprocessed()
        attack(self.images, self.labels, model=model)
        compiled = list(runner.traced_classifier(model, self.images)._functions)
        other = attack.replace(seed=5, **{name: 0.7 * number for name, number in attack.numbers().items()})
        shared = other.run(self.images, self.labels, model=model)
        self.assertEqual(list(runner.traced_classifier(model, self.images)._functions), compiled)
        alone = other.run(self.images, self.labels, model=Preprocessed())
        self.assertAllEqual(shared.images, alone.images)
        self.assertLess(np.max(np.abs(shared.parameters)), np.max(attack.epsilon))

    def test_a_search_of_a_wider_reach_is_another_one(self):
        model = Preprocessed()
        for epsilon in (0.5, 1.5):
            found = fr.attacks.FlowFrankWolfe(epsilon, steps=2).run(
                self.images, self.labels, model=model, stop_when_fooled=False
            )
            self.assertAllClose(np.max(np.abs(found.flow)), epsilon)

    def test_only_the_latest_functions_are_kept(self):
        model = Preprocessed()
        with mock.patch.object(classifier, "_KEPT_FUNCTIONS", 5):
            for draws in range(1, 5):
                fr.attacks.RandomFlow(0.1, draws=draws)(self.images, self.labels, model=model)
        self.assertLen(runner.traced_classifier(model, self.images)._functions, 5)

    def test_a_deleted_model_is_freed(self):
        model = Preprocessed()
        for attack in (fr.attacks.FlowPGD(EPSILON, steps=2), fr.attacks.FlowSquare(EPSILON, queries=5)):
            attack(self.images, self.labels, model=model)
        gone = weakref.ref(model), weakref.ref(model.network)
        del model
        gc.collect()
        self.assertEqual([reference() for reference in gone], [None, None])

    def test_the_weights_of_now(self):
        model = Preprocessed()
        attack = fr.attacks.FlowPGD(EPSILON, steps=2)
        attack(self.images, self.labels, model=model)
        model.network.set_weights([weight[..., ::-1] for weight in model.network.get_weights()])
        reversed_labels = testing.CLASSES - 1 - self.labels
        again = Preprocessed()
        again.network.set_weights(model.network.get_weights())
        self.assertAllClose(
            attack(self.images, reversed_labels, model=model),
            attack(self.images, reversed_labels, model=again),
            atol=1e-6,
        )

    def test_a_model_that_has_changed_is_traced_anew(self):
        attack = fr.attacks.FlowFGSM(EPSILON)

        def clean_loss(model):
            return attack.run(self.images, self.labels, model=model).clean_loss

        layers = [keras.layers.Flatten(), keras.layers.Dense(testing.CLASSES), keras.layers.Softmax()]
        model = keras.Sequential([keras.Input(testing.SHAPE), *layers])
        model.compile(loss=testing.cross_entropy())
        of_probabilities = clean_loss(model)
        model.pop()
        logits = model(self.images)
        expected = testing.cross_entropy().call(self.labels, logits)
        self.assertAllClose(clean_loss(model), expected, atol=1e-5)
        model.layers[-1].activation = keras.activations.softmax
        model.compile(loss=testing.cross_entropy())
        self.assertAllClose(clean_loss(model), of_probabilities, atol=1e-5)
        self.assertNotAllClose(expected, of_probabilities, atol=1e-3)

    def test_a_model_whose_layer_has_other_variables_is_traced_anew(self):
        attack, model = fr.attacks.FlowFGSM(EPSILON, loss=testing.cross_entropy()), testing.network()
        attack(self.images, self.labels, model=model)
        dense = model.layers[-1]
        if hasattr(dense, "quantize"):
            dense.quantize("int8")
        else:  # Keras 2 quantizes nothing.
            dense.kernel = tf.Variable(2 * dense.kernel)
        result = attack.run(self.images, self.labels, model=model)
        expected = testing.cross_entropy().call(self.labels, model(self.images))
        self.assertAllClose(result.clean_loss, expected, atol=1e-5)

    def test_the_loss_of_a_call_needs_no_compiled_model(self):
        model = testing.network()
        self.assertIsNone(losses.compiled_loss(model))
        fr.attacks.FlowPGD(EPSILON, steps=2)(self.images, self.labels, model=model, loss="margin")


if __name__ == "__main__":
    tf.test.main()

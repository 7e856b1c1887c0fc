"""Tests of random layers at a network's front, under a penalty."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from keras_flowreg.augmentation import after_augmentation
from tests import testing

SHAPE = (8, 10, 3)
# By name, since a stack may not have one.
LAYERS = {
    "RandomContrast": {"factor": 0.3},
    "RandomBrightness": {"factor": 0.1, "value_range": (0, 1)},
    "RandomCrop": {"height": 6, "width": 6},
    "RandomFlip": {},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomRotation": {"factor": 0.1},
    "RandomZoom": {"height_factor": 0.2},
    "RandomHue": {"factor": 0.2, "value_range": (0, 1)},
    "RandomSaturation": {"factor": 0.6, "value_range": (0, 1)},
    "RandomPosterization": {"factor": 4, "value_range": (0, 1)},
}
INSTALLED = [name for name in LAYERS if hasattr(keras.layers, name)]


def network(*front):
    keras.utils.set_random_seed(1)
    layers = [*front, keras.layers.Conv2D(4, 3, activation="swish"), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.layers.Input(SHAPE), *layers, keras.layers.Dense(4)])


def functional(front):
    inputs = keras.layers.Input(SHAPE)
    features = keras.layers.Flatten()(front(inputs))
    return keras.Model(inputs, keras.layers.Dense(4)(features))


def data():
    random = np.random.RandomState(0)
    return random.rand(16, *SHAPE).astype("float32"), random.randint(0, 4, 16)


def layer(name):
    return getattr(keras.layers, name)(**LAYERS[name])


class AugmentationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*INSTALLED)
    def test_it_trains(self, name):
        model = testing.regularized(network(layer(name)))
        history = model.fit(*data(), verbose=0).history
        self.assertGreater(history["gradient_penalty"][0], 0)
        self.assertTrue(np.isfinite(history["loss"]).all())

    @parameterized.named_parameters(
        ("sequential", lambda crop: network(crop)),
        ("functional", lambda crop: functional(crop)),
        ("a_model_of_its_own", lambda crop: functional(keras.Sequential([keras.layers.Input(SHAPE), crop]))),
        ("two", lambda crop: network(keras.layers.RandomFlip(), crop)),
    )
    def test_the_penalty_is_taken_behind_it(self, build):
        model = build(keras.layers.RandomCrop(6, 6))
        images, labels = data()
        rest, augmented = after_augmentation(model, tf.constant(images))
        self.assertEqual(augmented.shape, (16, 6, 6, 3))
        self.assertIs(rest.trainable_variables[0], model.trainable_variables[0])
        # Dense and convolution, the same weights: a crop of constant images is what it is anywhere.
        flat = np.ones_like(images) * images[:, :1, :1]
        regularizer = fr.InputGradientRegularizer(1.0)
        _, penalty = regularizer(model, flat, labels, testing.cross_entropy())
        _, expected = regularizer(rest, flat[:, :6, :6], labels, testing.cross_entropy())
        self.assertAllClose(penalty, expected, rtol=1e-5)

    def test_a_model_that_is_not_built_yet(self):
        images = np.random.RandomState(0).rand(4, *SHAPE).astype("float32")
        flatten, head = keras.layers.Flatten(), keras.layers.Dense(4)
        model = keras.Sequential([keras.layers.RandomContrast(0.3), keras.layers.Conv2D(4, 3), flatten, head])
        with tf.GradientTape() as tape:
            _, penalty = fr.FlowGradientRegularizer(1.0)(model, images, [0, 1, 2, 3], testing.cross_entropy())
        gradients = tape.gradient(
            penalty, [variable for variable in model.trainable_variables if len(variable.shape) > 1]
        )
        self.assertAllGreater([tf.norm(gradient) for gradient in gradients], 0)

    def test_a_replaced_head_is_the_one_that_is_trained(self):
        images, labels = data()
        model = keras.Sequential(
            [keras.layers.Input(SHAPE), keras.layers.RandomFlip(), keras.layers.Flatten(), keras.layers.Dense(4)]
        )
        after_augmentation(model, images)
        model.pop()
        model.add(keras.layers.Dense(4, kernel_initializer="zeros"))
        rest, _ = after_augmentation(model, images)
        self.assertAllEqual(rest(images), np.zeros([16, 4]))

    def test_a_call_of_ones_own_is_not_left_out(self):
        class Louder(keras.Sequential):
            def call(self, inputs, training=None, mask=None):
                return 1000 * super().call(inputs, training=training)

        model = Louder(
            [keras.Input(testing.SHAPE), keras.layers.RandomFlip(), keras.layers.Flatten(), keras.layers.Dense(4)]
        )
        images, labels = testing.data(6)
        self.assertIs(after_augmentation(model, tf.constant(images))[0], model)
        predictions, _ = fr.FlowGradientRegularizer(1.0)(model, images, labels, testing.cross_entropy())
        self.assertGreater(np.abs(predictions).max(), 100)

    def test_nothing_is_divided_without_it(self):
        model, (images, _) = network(), data()
        self.assertIs(after_augmentation(model, images)[0], model)
        flipped_behind = network(keras.layers.ReLU(), keras.layers.RandomFlip())
        self.assertIs(after_augmentation(flipped_behind, images)[0], flipped_behind)

    def test_what_has_no_derivative_behind_others_is_named(self):
        if compat.KERAS_3:  # Whose augmentations have derivatives.
            return
        model = network(keras.layers.Rescaling(1.0), keras.layers.RandomContrast(0.3, name="contrast"))
        for method in ("exact", "finite_difference"):
            regularized = fr.FlowRegularizedModel(model, fr.FlowGradientRegularizer(1.0, method=method))
            regularized.compile("sgd", testing.cross_entropy())
            with self.assertRaisesRegex(ValueError, "augmentation to come before all other layers.*contrast behind"):
                regularized.fit(*data(), verbose=0)
        consistent = fr.FlowRegularizedModel(model, fr.FlowConsistencyRegularizer(0.4))
        consistent.compile("sgd", testing.cross_entropy())
        with self.assertRaisesRegex(ValueError, "augmentation to come before all other layers.*contrast behind"):
            consistent.fit(*data(), verbose=0)

    def test_a_layer_without_a_second_derivative_is_named(self):
        class Rounded(keras.layers.Layer):
            def call(self, inputs):
                return tf.quantization.fake_quant_with_min_max_args(inputs, -6, 6)

        model = testing.regularized(network(Rounded(name="mine")))
        with self.assertRaisesRegex(ValueError, "Received mine .Rounded.: .*finite_difference"):
            model.fit(*data(), verbose=0)

    def test_the_check_can_be_turned_off(self):
        with self.assertRaisesRegex(ValueError, "Received bent .Bent.: its second derivative is off by"):
            testing.regularized(network(testing.Bent(name="bent"))).fit(*data(), verbose=0)
        model = fr.FlowRegularizedModel(network(testing.Bent()), fr.FlowGradientRegularizer(1.0), check_layers=False)
        model.compile("sgd", testing.cross_entropy())
        model.fit(*data(), verbose=0)


if __name__ == "__main__":
    tf.test.main()

"""Tests of the example scripts' architectures."""

import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from keras_flowreg.commands import architectures

HIDDEN_LAYERS = {"small_cnn": 3, "lenet5": 4, "vgg11": 8, "resnet8": 7, "small_vit": 5}


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


class ArchitecturesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        # 26*32 + 801*64 + (49*64 + 1)*256 + 257*10
        ("small_cnn", "small_cnn", (28, 28, 1), 857_738, 0),
        # 26*6 + 151*16 + 401*120 + 121*84 + 85*10: the familiar count.
        ("lenet5_padded", "lenet5", (28, 28, 1), 61_706, 0),
        ("lenet5", "lenet5", (32, 32, 1), 61_706, 0),
        # Convolutions 9,220,480, normalizations 2*2752, dense 5130; statistics 2*2752.
        ("vgg11", "vgg11", (32, 32, 3), 9_231_114, 5504),
        # One input channel: 2*9*64 fewer.
        ("vgg11_grey", "vgg11", (28, 28, 1), 9_229_962, 5504),
        # VGG-11 and 64 -> 64, 128 -> 128 convolutions: 36,928 + 147,584, normalizations 2*192.
        ("vgg13", "vgg13", (32, 32, 3), 9_416_010, 5888),
        # VGG-13 and 256 -> 256, twice 512 -> 512: 590,080 + 2*2,359,808, normalizations 2*1280.
        ("vgg16", "vgg16", (32, 32, 3), 14_728_266, 8448),
        # VGG-16 and the same again.
        ("vgg19", "vgg19", (32, 32, 3), 20_040_522, 11_008),
        # Stem 432, stages 4608 + 14,336 + 57,344, normalizations 2*336, dense 650.
        ("resnet8", "resnet8", (32, 32, 3), 78_042, 672),
        # ResNet-8 and 4 convolutions more a stage: 4*9*(16**2 + 32**2 + 64**2), normalizations 2*448.
        ("resnet20", "resnet20", (32, 32, 3), 272_474, 1568),
        # Stem 1728, stages 147,456 + 524,288 + 2,097,152 + 8,388,608, normalizations 2*4800, dense 5130;
        # a stage c/2 -> c: 9*(c*c/2 + 3*c*c) + c*c/2 = 32*c*c.
        ("resnet18", "resnet18", (32, 32, 3), 11_173_962, 9600),
        # Convolutions 320 + 18,496, positions 640, blocks 4*(2*128 + 4*4160 + 8320 + 8256), the last normalization 128, dense 650.
        ("small_vit", "small_vit", (28, 28, 1), 154_122, 0),
    )
    def test_parameter_counts(self, name, input_shape, trainable, statistics):
        model = architectures.build(name, input_shape, 10)
        self.assertEqual(count(model.trainable_weights), trainable)
        self.assertEqual(count(model.non_trainable_weights), statistics)

    @parameterized.product(name=architectures.NAMES, smallest=[False, True])
    def test_logits(self, name, smallest):
        input_shape = (architectures._SMALLEST_SIDES[name],) * 2 + (3,) if smallest else (28, 28, 1)
        model = architectures.build(name, input_shape, 7, width=0.125)
        images = np.random.RandomState(0).uniform(size=(2, *input_shape)).astype("float32")
        logits = model(images)
        self.assertEqual(model.name, name)
        self.assertEqual(logits.shape, (2, 7))
        self.assertAllInRange(logits, -1e3, 1e3)
        self.assertEqual(model.layers[-1].activation, keras.activations.linear)

    @parameterized.product(name=tuple(HIDDEN_LAYERS), activation=architectures.ACTIVATIONS)
    def test_activation_of_every_hidden_layer(self, name, activation):
        model = architectures.build(name, (32, 32, 3), 10, 0.1, activation)
        activations = {layer.activation for layer in layers_of(model, keras.layers.Activation)}
        self.assertEqual(activations, {keras.activations.get(activation)})
        self.assertLen(layers_of(model, keras.layers.Activation), HIDDEN_LAYERS[name])

    @parameterized.parameters((0.5, [32, 64, 128, 128, 256, 256, 256, 256]), (0.001, [1] * 8))
    def test_width_multiplies_channels(self, width, channels):
        model = architectures.build("vgg11", (28, 28, 1), 10, width=width)
        self.assertEqual([layer.filters for layer in layers_of(model, keras.layers.Conv2D)], channels)
        self.assertEqual(model.output_shape, (None, 10))

    @parameterized.parameters((0.5, [60, 42, 10]), (2, [240, 168, 10]))
    def test_width_multiplies_hidden_units(self, width, units):
        model = architectures.build("lenet5", (28, 28, 1), 10, width=width)
        self.assertEqual([layer.units for layer in layers_of(model, keras.layers.Dense)], units)

    @parameterized.parameters("vgg11", "resnet8")
    def test_normalization_momentum(self, name):
        model = architectures.build(name, (32, 32, 3), 10, width=0.125)
        momenta = {layer.momentum for layer in layers_of(model, keras.layers.BatchNormalization)}
        self.assertEqual(momenta, {0.9})

    @parameterized.parameters("small_cnn", "lenet5", "vgg11", "resnet18", "small_vit")
    def test_weights_are_he_normal(self, name):
        model = architectures.build(name, (28, 28, 1), 10, width=0.125)
        for layer in layers_of(model, (keras.layers.Conv2D, keras.layers.Dense)):
            self.assertIsInstance(layer.kernel_initializer, keras.initializers.HeNormal)

    @parameterized.parameters("vgg11", "resnet18")
    def test_features_do_not_grow_with_the_image(self, name):
        model = architectures.build(name, (64, 64, 3), 10, width=0.125)
        self.assertEqual(tuple(model.layers[-1].kernel.shape), (512 // 8, 10))

    def test_residual_block_without_its_branch_is_the_identity(self):
        model = architectures.build("resnet8", (8, 8, 1), 10)
        end_of_branch = layers_of(model, keras.layers.BatchNormalization)[2]
        end_of_branch.gamma.assign(tf.zeros_like(end_of_branch.gamma))
        stem, block = (layers_of(model, keras.layers.Activation)[index] for index in (0, 2))
        images = np.random.RandomState(0).uniform(size=(2, 8, 8, 1)).astype("float32")
        before, after = keras.Model(model.input, [stem.output, block.output])(images)
        self.assertGreater(np.max(before), 0.1)
        self.assertAllClose(before, after)

    def test_transformer_blocks_without_their_branches_are_the_identity(self):
        model = architectures.build("small_vit", (16, 16, 1), 10)
        branches = [
            layer for layer in model.layers if isinstance(layer, (keras.layers.MultiHeadAttention, keras.layers.Dense))
        ]
        for layer in branches[:-1]:
            layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
        first, *_, last = layers_of(model, keras.layers.LayerNormalization)
        images = np.random.RandomState(0).uniform(size=(2, 16, 16, 1)).astype("float32")
        before, after = keras.Model(model.input, [first.input, last.input])(images)
        self.assertGreater(np.max(np.abs(before)), 0.1)
        self.assertAllClose(before, after)

    def test_transformer_knows_where_patches_are(self):
        model = architectures.build("small_vit", (16, 16, 1), 10)
        corner = np.zeros((2, 16, 16, 1), "float32")
        corner[0, 4:8, 4:8] = corner[1, 8:12, 8:12] = 1.0  # the same, one patch on
        first, second = model(corner)
        self.assertNotAllClose(first, second, atol=1e-4)

    def test_small_images_of_lenet_are_padded_to_32(self):
        models = [architectures.build("lenet5", (side, side, 1), 10) for side in (28, 32)]
        models[1].set_weights(models[0].get_weights())
        images = np.random.RandomState(0).uniform(size=(2, 28, 28, 1)).astype("float32")
        padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
        self.assertAllClose(models[0](images), models[1](padded), atol=1e-4)

    def test_learns_the_training_images(self):
        keras.utils.set_random_seed(0)
        labels = np.arange(40) % 2
        images = np.random.RandomState(0).uniform(size=(40, 16, 16, 1)).astype("float32")
        images[labels == 1, :, 8:] += 1.0
        model = architectures.build("resnet8", (16, 16, 1), 2)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
        history = model.fit(images, labels, batch_size=40, epochs=10, verbose=0).history
        self.assertEqual(history["accuracy"][-1], 1.0)

    @parameterized.parameters(
        (dict(name="vgg12"), "Expected `name` to be one of small_cnn, .* Received: name='vgg12'"),
        (dict(input_shape=(28, 28)), r"\(height, width, channels\). Received: input_shape=\(28, 28\)"),
        (
            dict(input_shape=(28, 16, 1)),
            r"at least 17x17 pixels for 'vgg11'. Received: input_shape=\(28, 16, 1\)",
        ),
        (dict(name="lenet5", input_shape=(11, 28, 1)), "at least 12x12 pixels for 'lenet5'"),
        (dict(num_classes=1), "Expected `num_classes` to be at least 2. Received: num_classes=1"),
        (dict(width=0), "Expected `width` to be positive. Received: width=0"),
        (dict(width=-0.5), "Expected `width` to be positive. Received: width=-0.5"),
        (dict(activation="tanh"), "Expected `activation` to be one of relu, .*Received: activation='tanh'"),
    )
    def test_errors(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            architectures.build(**{"name": "vgg11", "input_shape": (28, 28, 1), "num_classes": 10, **arguments})


if __name__ == "__main__":
    tf.test.main()

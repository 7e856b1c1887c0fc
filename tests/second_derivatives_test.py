"""Tests that a penalty's derivative is exact for every layer of Keras, against central differences of the penalty."""

import threading

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import compat
from keras_flowreg.second_derivatives import _is_exact

layers = keras.layers
SHAPE = (6, 6, 3)


class OwnMoments(layers.Layer):
    """A user's layer, which standardizes each image's channels."""

    def call(self, inputs):
        mean, variance = tf.nn.moments(inputs, axes=[1, 2], keepdims=True)
        return (inputs - mean) / tf.sqrt(variance + 0.1)


class OwnFused(layers.Layer):
    """A user's layer, which calls the fused batch normalization."""

    def call(self, inputs):
        ones = tf.ones([inputs.shape[-1]])
        output, _, _ = tf.compat.v1.nn.fused_batch_norm(tf.cast(inputs, tf.float32), 2 * ones, ones)
        return tf.cast(output, inputs.dtype)


class OwnNormalization(layers.BatchNormalization):
    """A user's subclass of Keras's layer."""

    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask)


class OwnConvolution(layers.Conv2D):
    """A user's subclass of Keras's layer, with another convolution in it."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - tf.reduce_mean(kernel, axis=[0, 1]))


class Attended(layers.Layer):
    """Attention of an image's pixels to each other."""

    def __init__(self, attention):
        super().__init__(dtype=attention.dtype)
        self.pixels = layers.Reshape([-1, 4])
        self.attention = attention

    def build(self, shape):
        sequence = (None, 36, 4)
        if isinstance(self.attention, layers.MultiHeadAttention):
            build = getattr(self.attention, "_build_from_signature", self.attention.build)
            build(sequence, sequence)
        super().build(shape)

    def call(self, inputs):
        pixels = self.pixels(inputs)
        if isinstance(self.attention, layers.MultiHeadAttention):
            return self.attention(pixels, pixels)
        return self.attention([pixels, pixels])


def sequence(layer):
    return lambda: [layers.Reshape([-1, 4]), layer()]


# Each in the middle of a small network, on a [batch, 6, 6, 4].
LAYERS = {
    "Activation": lambda: layers.Activation("gelu"),
    "Activation softsign": lambda: layers.Activation("softsign"),
    "ActivityRegularization": layers.ActivityRegularization,
    "AlphaDropout": lambda: layers.AlphaDropout(0.1),
    "Attention": lambda: Attended(layers.Attention()),
    "AdditiveAttention": lambda: Attended(layers.AdditiveAttention()),
    "AveragePooling1D": sequence(lambda: layers.AveragePooling1D(2)),
    "AveragePooling2D": lambda: layers.AveragePooling2D(3, 2, "same"),
    "BatchNormalization": layers.BatchNormalization,
    "BatchNormalization axis": lambda: layers.BatchNormalization(axis=1),
    "BatchNormalization frozen": lambda: layers.BatchNormalization(trainable=False),
    "BatchNormalization sequence": sequence(layers.BatchNormalization),
    "BatchNormalization small": lambda: layers.BatchNormalization(epsilon=1e-6, scale=False),
    "BatchNormalization synchronized": lambda: layers.BatchNormalization(synchronized=True),
    "CenterCrop": lambda: layers.CenterCrop(4, 5),
    "Conv1D": sequence(lambda: layers.Conv1D(3, 3, activation="tanh")),
    "Conv2D": lambda: layers.Conv2D(4, 3, strides=2, padding="same"),
    "Conv2D dilated": lambda: layers.Conv2D(4, 2, dilation_rate=2),
    "Conv2D depthwise": lambda: layers.Conv2D(8, 3, groups=4, activation="tanh"),
    "Conv2D depthwise dilated": lambda: layers.Conv2D(4, 2, groups=4, dilation_rate=2, use_bias=False),
    "Conv2D depthwise strides": lambda: layers.Conv2D(8, (3, 2), strides=2, padding="same", groups=4),
    "Conv2D groups": lambda: layers.Conv2D(4, 3, groups=2),
    "Conv2DTranspose": lambda: layers.Conv2DTranspose(2, 3, strides=2),
    "Cropping2D": layers.Cropping2D,
    "Dense": lambda: layers.Dense(3, activation="softplus"),
    "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    "Dropout": lambda: layers.Dropout(0.2),
    "ELU": layers.ELU,
    "EinsumDense": lambda: layers.EinsumDense("abcd,de->abce", (6, 6, 5)),
    "Flatten": layers.Flatten,
    "GRU": sequence(lambda: layers.GRU(3, reset_after=True)),
    "GaussianNoise": lambda: layers.GaussianNoise(0.1),
    "GlobalAveragePooling2D": layers.GlobalAveragePooling2D,
    "GlobalMaxPooling2D": layers.GlobalMaxPooling2D,
    "GroupNormalization": lambda: layers.GroupNormalization(2),
    "GroupNormalization axis": lambda: layers.GroupNormalization(2, axis=1),
    "GroupNormalization instance": lambda: layers.GroupNormalization(-1, scale=False),
    "LSTM": sequence(lambda: layers.LSTM(3)),
    "LayerNormalization": layers.LayerNormalization,
    "LayerNormalization axes": lambda: layers.LayerNormalization(axis=[1, 3], center=False),
    "LayerNormalization image": lambda: layers.LayerNormalization(axis=[1, 2, 3]),
    "LeakyReLU": layers.LeakyReLU,
    "MaxPooling1D": sequence(layers.MaxPooling1D),
    "MaxPooling2D": layers.MaxPooling2D,
    "MaxPooling2D overlapping": lambda: layers.MaxPooling2D(3, 2, "same"),
    "MaxPooling2D dense": lambda: layers.MaxPooling2D(2, 1, "valid"),
    "MultiHeadAttention": lambda: Attended(layers.MultiHeadAttention(2, 2)),
    "Normalization": lambda: layers.Normalization(mean=0.4, variance=2.0),
    "PReLU": lambda: layers.PReLU(alpha_initializer="uniform"),
    "Permute": lambda: layers.Permute([3, 1, 2]),
    "ReLU": lambda: layers.ReLU(max_value=0.4),
    "Rescaling": lambda: layers.Rescaling(3.0, 0.1),
    "Reshape": lambda: layers.Reshape([12, 12]),
    "Resizing": lambda: layers.Resizing(9, 5),
    "Resizing bicubic": lambda: layers.Resizing(9, 5, interpolation="bicubic"),
    "Resizing nearest": lambda: layers.Resizing(9, 5, interpolation="nearest"),
    "SeparableConv2D": lambda: layers.SeparableConv2D(5, 3),
    "SimpleRNN": sequence(lambda: layers.SimpleRNN(3)),
    "Softmax": layers.Softmax,
    "SpatialDropout2D": lambda: layers.SpatialDropout2D(0.2),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.LayerNormalization()),
    "UnitNormalization": layers.UnitNormalization,
    "UpSampling2D": layers.UpSampling2D,
    "UpSampling2D bilinear": lambda: layers.UpSampling2D(interpolation="bilinear"),
    "ZeroPadding2D": layers.ZeroPadding2D,
    "user's moments": OwnMoments,
    "user's fused": OwnFused,
    "user's subclass": OwnNormalization,
}
if compat.KERAS_3:
    LAYERS["RMSNormalization"] = layers.RMSNormalization
    LAYERS["GroupQueryAttention"] = lambda: SelfAttended(layers.GroupQueryAttention(4, 4, 2))
# TensorFlow computes these in float32 whatever their inputs are, and so the difference is rounded.
IN_FLOAT32 = ("user's fused", "Resizing", "Resizing bicubic", "UpSampling2D bilinear")


class SelfAttended(Attended):
    """The same for a layer that takes query and value."""

    def build(self, shape):
        self.attention.build((None, 36, 4), (None, 36, 4))

    def call(self, inputs):
        pixels = self.pixels(inputs)
        return self.attention(pixels, pixels)


def network(make_layer):
    keras.utils.set_random_seed(0)
    made = make_layer()
    made = made if isinstance(made, list) else [made]
    return keras.Sequential(
        [
            layers.Input(SHAPE),
            layers.Conv2D(4, 3, padding="same"),
            *made,
            layers.Activation("swish"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def penalty(model, dtype):
    """The flow gradient's penalty of a batch, the same random draws at each call."""
    keras.utils.set_random_seed(1)
    images = tf.constant(np.random.RandomState(0).rand(5, *SHAPE), dtype)
    labels = np.array([0, 1, 2, 1, 0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    regularizer = fr.InputGradientRegularizer(1.0)
    return tf.cast(regularizer(model, images, labels, loss, training=True)[1], tf.float64)


def slope_error(model, dtype, step):
    """The relative error of the penalty's slope along a random direction of the weights."""
    weights = compat.tf_variables(model.trainable_weights)
    variables = compat.tf_variables(model.variables)
    state = [variable.numpy() for variable in variables]
    random = np.random.RandomState(2)
    direction = [random.randn(*weight.shape) for weight in weights]

    def move(distance):
        for variable, old in zip(variables, state):
            variable.assign(old)
        for weight, part in zip(weights, direction):
            weight.assign_add(tf.constant(distance * part, weight.dtype))

    def penalty_at(distance):
        move(distance)
        return float(penalty(model, dtype))

    move(0.0)
    with tf.GradientTape() as tape:
        value = penalty(model, dtype)
    gradients = tape.gradient(value, weights)
    slope = sum(np.sum(gradient * part) for gradient, part in zip(gradients, direction) if gradient is not None)
    near, far = (penalty_at(distance) - penalty_at(-distance) for distance in (step, 2 * step))
    difference = (8 * near - far) / (12 * step)
    return abs(slope - difference) / abs(difference)


class ExactTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*LAYERS)
    def test_slope(self, name):
        for set_precision in (keras.backend.set_floatx, keras.mixed_precision.set_global_policy):
            set_precision("float64")
            self.addCleanup(set_precision, "float32")
        in_float32 = name in IN_FLOAT32
        error = slope_error(network(LAYERS[name]), "float64", step=1e-3 if in_float32 else 1e-5)
        self.assertLess(error, 1e-3 if in_float32 else 1e-6)

    @parameterized.parameters("BatchNormalization", "LayerNormalization", "GroupNormalization")
    def test_slope_in_float32(self, name):
        self.assertLess(slope_error(network(LAYERS[name]), "float32", step=3e-3), 1e-3)

    @parameterized.parameters("BatchNormalization", "LayerNormalization", "GroupNormalization", "MaxPooling2D")
    def test_half_precision(self, name):
        def gradient(policy):
            keras.mixed_precision.set_global_policy(policy)
            model = network(LAYERS[name])
            keras.mixed_precision.set_global_policy("float32")
            weights = compat.tf_variables(model.trainable_weights)
            with tf.GradientTape() as tape:
                value = penalty(model, "float32")
            return np.concatenate([np.ravel(part) for part in tape.gradient(value, weights) if part is not None])

        half, full = gradient("mixed_bfloat16"), gradient("float32")
        self.assertLess(np.linalg.norm(half - full), 0.2 * np.linalg.norm(full))


class ScopeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        make=[
            layers.BatchNormalization,
            lambda: layers.BatchNormalization(center=False, momentum=0.5),
            layers.LayerNormalization,
            lambda: layers.LayerNormalization(axis=[1, 2], scale=False),
            lambda: layers.GroupNormalization(2),
            lambda: layers.MaxPooling2D(3, 2, "same"),
            lambda: layers.Resizing(9, 5),
            *(LAYERS[name] for name in LAYERS if name.startswith("Conv2D depthwise")),
        ],
        training=[True, False],
    )
    def test_values_and_statistics_are_keras_own(self, make, training):
        images = 3 * np.random.RandomState(0).randn(5, *SHAPE).astype("float32") + 1
        ours, theirs = network(make), network(make)
        with fr.exact_second_derivatives():
            inside = ours(images, training=training)
        self.assertAllClose(inside, theirs(images, training=training), atol=1e-5)
        for our, their in zip(ours.get_weights(), theirs.get_weights()):
            self.assertAllClose(our, their, rtol=1e-5)

    def test_a_convolution_of_the_users_own_is_kept(self):
        model = keras.Sequential([layers.Input(SHAPE), OwnConvolution(3, 3, groups=3)])
        images = np.random.RandomState(0).rand(2, *SHAPE).astype("float32")
        with fr.exact_second_derivatives():
            output = model(images)
        self.assertAllClose(output, model(images))

    def test_closed_forms_are_taken_in_the_scope_alone(self):
        layer = layers.BatchNormalization(axis=-1, dtype="float32")
        images = tf.random.normal([5, *SHAPE])
        layer(images)

        def operations():
            graph = tf.function(lambda: layer(images, training=True)).get_concrete_function().graph
            return {node.op for node in graph.as_graph_def().node}

        before = operations()
        with fr.exact_second_derivatives():
            self.assertIn("FusedBatchNormV3", operations())
        self.assertEqual(operations(), before)

    def test_other_threads_are_left_alone(self):
        seen = []
        with fr.exact_second_derivatives():
            thread = threading.Thread(target=lambda: seen.append(_is_exact.get()))
            thread.start()
            thread.join()
            seen.append(_is_exact.get())
        self.assertEqual([*seen, _is_exact.get()], [False, True, False])

    def test_two_threads_at_once(self):
        expected, found = float(penalty(network(layers.BatchNormalization), "float32")), []
        models = [network(layers.BatchNormalization) for _ in range(4)]
        threads = [threading.Thread(target=lambda m=m: found.append(float(penalty(m, "float32")))) for m in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertAllClose(found, [expected] * 4, rtol=1e-5)

    def test_a_layer_of_examples_without_any(self):
        layer = layers.BatchNormalization()
        layer.build((None, *SHAPE))
        before = layer.get_weights()
        with fr.exact_second_derivatives():
            self.assertEqual(layer(np.zeros([0, *SHAPE], "float32"), training=True).shape, (0, *SHAPE))
        self.assertAllClose(layer.get_weights(), before)

    def test_the_model_stays_the_users(self):
        model = network(layers.BatchNormalization)
        penalty(model, "float32")
        self.assertEqual([type(layer).__name__ for layer in model.layers][1:3], ["BatchNormalization", "Activation"])
        again = keras.Sequential.from_config(model.get_config())
        again.set_weights(model.get_weights())
        images = np.random.RandomState(0).rand(2, *SHAPE)
        self.assertAllClose(again(images), model(images))
        self.assertEqual(tf.nn.moments(tf.constant([1.0, 3.0]), [0])[1].numpy(), 1.0)


if __name__ == "__main__":
    tf.test.main()

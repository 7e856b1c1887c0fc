"""Small networks at random weights, one for each kind of layer."""

import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_flowreg.certification.network import Network

SHAPE, CLASSES = (7, 6, 2), 3
# In a functional model of Keras 3 operations are Keras's own; in one of Keras 2 they are TensorFlow's.
ops = getattr(keras, "ops", tf)
mean = getattr(ops, "mean", None) or tf.reduce_mean
greatest = getattr(ops, "max", None) or tf.reduce_max
total = getattr(ops, "sum", None) or tf.reduce_sum
concatenated = getattr(ops, "concatenate", None) or tf.concat
flipped = getattr(ops, "flip", None) or tf.reverse
softmax = getattr(ops, "softmax", None) or tf.nn.softmax
erf, rsqrt, log = (getattr(ops, name, None) or getattr(tf.math, name) for name in ("erf", "rsqrt", "log"))
moments = getattr(ops, "moments", None) or tf.nn.moments
length, variance = getattr(ops, "norm", tf.norm), getattr(ops, "var", None) or tf.math.reduce_variance
activated = getattr(ops, "gelu", None) or tf.nn.gelu
convnext, inception_resnet = (
    sys.modules[network.__module__]
    for network in (keras.applications.ConvNeXtTiny, keras.applications.InceptionResNetV2)
)
_NAMES = (
    *("tanh", "sigmoid", "softplus", "softsign", "swish", "gelu", "elu", "selu", "mish"),
    *("hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "log_sigmoid", "relu6"),
)
ACTIVATIONS = [name for name in _NAMES if hasattr(keras.activations, name)]


def convolved(inputs, kernel):
    return tf.nn.conv2d(inputs, kernel, 1, "VALID") if ops is tf else ops.conv(inputs, kernel)


def pooled(inputs):
    return tf.nn.avg_pool2d(inputs, 2, 2, "VALID") if ops is tf else ops.average_pool(inputs, 2)


def pooled_greatest(inputs):
    return tf.nn.max_pool2d(inputs, [1, 2, 2, 1], 1, "SAME") if ops is tf else ops.max_pool(inputs, 2, 1, "same")


def normalized(inputs):
    return tf.math.l2_normalize(inputs, -1) if ops is tf else ops.normalize(inputs, -1)


def images(size=3, shape=SHAPE, seed=0):
    return np.random.RandomState(seed).rand(size, *shape).astype("float32")


def randomize(model, seed=0):
    """Gives a model random weights, and its batch normalizations random statistics."""
    random = np.random.RandomState(seed)
    for weights in model.trainable_weights:
        weights.assign(random.randn(*weights.shape))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(random.randn(*layer.moving_mean.shape))
            layer.moving_variance.assign(random.uniform(0.5, 1.5, layer.moving_variance.shape))
    return model


def network_of(model):
    """The steps of a model that says which images it takes."""
    return Network(model, model.input_shape[1:])


def chain(*parts, shape=SHAPE, classes=CLASSES):
    model = keras.Sequential([keras.Input(shape), *parts, layers.Flatten(), layers.Dense(classes)])
    return randomize(model)


def _residual():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(x))
    x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.Concatenate()([x, layers.Activation("tanh")(y), inputs])
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))))


def _sum_with_mean():
    """A sum that repeats one pixel along all sides, before and behind a convolution."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.Add()([layers.GlobalAveragePooling2D(keepdims=True)(x), x])
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(layers.Conv2D(2, 3)(x)))))


def _sum_of_ranks():
    """A sum of an image with a vector, and with rows: axes of size 1 come behind the batch."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    vector = layers.Dense(4)(layers.GlobalAveragePooling2D()(inputs))
    rows = layers.Dense(4)(layers.Reshape((6, 2))(layers.AveragePooling2D((7, 1))(inputs)))
    x = layers.Identity()(layers.Add()([vector, x, rows]))
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(layers.Conv2D(2, 3)(x)))))


def _mean_and_difference():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    y = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.Average()([x, layers.GlobalAveragePooling2D(keepdims=True)(y), y])
    x = layers.Subtract()([layers.Conv2D(4, 1)(inputs), x])
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x))))


def _gated():
    """Squeeze and excitation: an image times a gate for each channel; and a product of three."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same", activation="swish")(inputs)
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 4))(gate)])
    y = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.Multiply()([y, gate, layers.Conv2D(1, 1)(inputs)])
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x))))


def _arithmetic():
    """Operations outside of layers, between values and with constants on either side."""
    inputs = keras.Input(SHAPE)
    x = 2 * (inputs - 0.5) / 4.0
    x = layers.Conv2D(2, 1)((0.5 - x) * np.float32([0.5, 1.0]) + images(1)[0])
    x = x - (inputs + x + x) / 3.0
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(-x))))


def _moves():
    """Operations that put values elsewhere."""
    inputs = keras.Input(SHAPE)
    x = ops.pad(ops.transpose(inputs, [0, 2, 1, 3])[:, 1:, ::2], [[0, 0], [1, 0], [0, 2], [0, 0]])
    x = layers.Conv2D(4, 2)(ops.roll(flipped(x, [1]), 1, 2))
    rows = ops.squeeze(ops.expand_dims(x[:, 0], 1), 1)
    x = concatenated([rows, ops.stack([x[:, 0, 0], x[:, 1, 2]], 1)], 1)
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(ops.reshape(x, [-1, 28]))))


def _sums():
    """Operations that add values up, or repeat them."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 2)(ops.tile(ops.repeat(inputs, 2, 2), [1, 1, 2, 1]))
    x = layers.Conv2D(3, 1)(mean(x, 1, keepdims=True) + mean(x, [1, 2], keepdims=True))
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(total(x, [1, 2]) / 20)))


def _parts():
    """Operations that give several values."""
    inputs = keras.Input(SHAPE)
    first, second, third = ops.split(layers.Conv2D(6, 2)(inputs), 3, axis=3)
    left, *_, right = ops.unstack(ops.stop_gradient(first - third), axis=2)
    rows = concatenated([left, right], 1)
    center, _ = moments(second, [1, 2])
    x = concatenated([layers.Flatten()(rows), center], 1)
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(ops.cast(x, "float32"))))


class ByHand(layers.Layer):
    """What layers do, by operations: a normalization, attention of parts, and GELU."""

    def __init__(self):
        super().__init__()
        self.split, self.merged = layers.Dense(12), layers.Dense(4)

    def call(self, inputs):
        x = self.attended(self.normalized(inputs))
        return 0.5 * x * (1 + erf(x / np.sqrt(2.0))) + x**3 / (1 + ops.exp(-ops.tanh(x)))

    def normalized(self, inputs):
        center = mean(inputs, -1, keepdims=True)
        variance = mean(ops.square(inputs - center), -1, keepdims=True)
        return (inputs - center) * rsqrt(variance + 1.0)

    def attended(self, x):
        query, key, value = ops.split(self.split(x), 3, axis=-1)
        weights = ops.exp(4 * ops.tanh(ops.matmul(query, ops.transpose(key, [0, 2, 1])) / 20))
        return self.merged(ops.matmul(weights / total(weights, -1, keepdims=True), value))


def _by_hand():
    inputs = keras.Input(SHAPE)
    x = layers.Reshape((9, 4))(layers.Conv2D(4, 2, strides=2)(inputs))
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(ByHand()(x)))))


class Windows(layers.Layer):
    """Layers, and attention of several heads by hand, in windows that are put into the batch."""

    def __init__(self):
        super().__init__()
        self.normalization, self.heads, self.merged = layers.LayerNormalization(), layers.Dense(24), layers.Dense(8)

    def build(self, shape):
        self.bias = self.add_weight(shape=(2, 4, 4), name="bias")

    def call(self, inputs):  # [batch, 6, 4, 8]
        size = ops.shape(inputs)[0]
        x = ops.transpose(ops.reshape(inputs, [size, 3, 2, 2, 2, 8]), [0, 1, 3, 2, 4, 5])
        x = ops.reshape(x, [-1, 4, 8])  # four pixels in each of six windows
        x = keras.activations.relu(x + self.attended(self.normalization(x)))
        x = ops.transpose(ops.reshape(x, [size, 3, 2, 2, 2, 8]), [0, 1, 3, 2, 4, 5])
        return ops.reshape(x, [-1, 6, 4, 8])

    def attended(self, x):
        heads = ops.reshape(self.heads(x), [ops.shape(x)[0], 4, 3, 2, 4])
        query, key, value = ops.unstack(ops.transpose(heads, [2, 0, 3, 1, 4]), axis=0)
        scores = ops.matmul(query, ops.transpose(key, [0, 1, 3, 2])) * 0.1 + self.bias
        scores = ops.reshape(scores, [-1, 6, 2, 4, 4]) + images(1, (6, 1, 4, 4))
        weights = softmax(ops.reshape(scores, [-1, 2, 4, 4]))
        mixed = ops.transpose(ops.matmul(weights, value), [0, 2, 1, 3])
        return self.merged(ops.reshape(mixed, [-1, 4, 8]))


def _windows():
    inputs = keras.Input(SHAPE)
    x = Windows()(layers.Conv2D(8, (2, 3), activation="relu")(inputs))
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))))


def _roots():
    """Norms and variances, by names and by powers; logarithms; a constant over a value."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3)(inputs)
    _, spread = moments(x, [1, 2], keepdims=True)
    x = x / ops.sqrt(spread + 0.5) + x / (length(x, axis=-1, keepdims=True) + 1)
    y = log(variance(x, 3) + 0.5) + 1 / (1 + ops.square(x[..., 0])) ** 0.5
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(y + total(x, 3) ** 4 / 100))))


def _greatest_of_operations():
    inputs = keras.Input(SHAPE)
    x, y = (layers.Conv2D(4, 3, padding="same")(inputs) for _ in range(2))
    x = ops.maximum(ops.minimum(x, 0.5), -0.5) + ops.minimum(ops.abs(y), x)
    x = layers.Conv2D(4, 2)(ops.maximum(0.1, x)) ** 2
    x = x - greatest(x, [1, 2], keepdims=True) + greatest(x, 3)[..., None]
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x + ops.square(x[:, ::-1])))))


def _arithmetic_of_products():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same")(inputs / 0.5)
    gate = keras.activations.sigmoid(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = keras.activations.relu(x) * gate + keras.activations.tanh(x) - keras.activations.gelu(x)
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x * x))))


def _greatest_and_least():
    inputs = keras.Input(SHAPE)
    x, y = (layers.Conv2D(4, 3, padding="same")(inputs) for _ in range(2))
    vector = layers.Dense(4)(layers.GlobalAveragePooling2D()(inputs))
    x = layers.Maximum()([x, vector, y])
    x = layers.Minimum()([layers.Conv2D(4, 1)(x), y])
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(layers.Conv2D(2, 3)(x)))))


def _parametric_relu():
    model = chain(layers.Conv2D(3, 3), layers.PReLU(), layers.Conv2D(3, 2), layers.PReLU(shared_axes=[1, 2]))
    for layer in model.layers:
        if isinstance(layer, layers.PReLU):
            layer.alpha.assign(np.random.RandomState(0).uniform(-1, 2, layer.alpha.shape))
    return model


def _attention(has_keys=False, **options):
    """A small vision transformer: patches, attention behind a layer normalization, and two dense layers."""
    inputs = keras.Input(SHAPE)
    x = layers.Reshape((9, 4))(layers.Conv2D(4, 2, strides=2)(inputs))
    normalized = layers.LayerNormalization()(x)
    attention = layers.MultiHeadAttention(2, key_dim=3, **options)
    keys = [layers.Dense(5)(normalized)] if has_keys else []
    x = layers.Add()([x, attention(normalized, normalized, *keys)])
    x = layers.Add()([x, layers.Dense(4)(layers.Dense(8, activation="gelu")(layers.LayerNormalization()(x)))])
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x))))


def _sum_with_scale():
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(2, 3, padding="same")(inputs)
    x = inception_resnet.CustomScaleLayer(-0.3)([x, inputs])
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x))))


def _nested():
    inputs = keras.Input(SHAPE)
    inner_inputs = keras.Input(SHAPE)
    inner = keras.Model(inner_inputs, layers.Add()([layers.Conv2D(2, 1)(inner_inputs), inner_inputs]))
    block = keras.Sequential([layers.Conv2D(2, 3, padding="same", activation="relu"), layers.Dropout(0.5)])
    x = inner(layers.ReLU()(block(inner(inputs))))
    return randomize(keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(layers.Flatten()(x))))


class Patches(layers.Layer):
    """Patches behind a class token, with positions: arrays of its own."""

    def build(self, shape):
        self.embedding = layers.Conv2D(4, 2, strides=2)
        self.embedding.build(shape)
        self.token = self.add_weight(shape=(1, 1, 4), name="token")
        self.positions = self.add_weight(shape=(1, 10, 4), name="positions")

    def call(self, inputs):
        patches = self.embedding(inputs)
        size = ops.shape(patches)[0]
        patches = ops.reshape(patches, [size, -1, patches.shape[-1]])
        return concatenated([ops.tile(self.token, [size, 1, 1]), patches], 1) + self.positions


class OwnAttention(layers.Layer):
    """Attention by hand: products of matrices, and what is behind them."""

    def build(self, shape):
        self.kernels = [self.add_weight(shape=(4, 4), name=name, initializer="he_normal") for name in "qkv"]

    def call(self, inputs):
        query, key, value = (ops.matmul(inputs, kernel) for kernel in self.kernels)
        weights = softmax(ops.matmul(query, ops.transpose(key, [0, 2, 1])) * 0.5)
        return inputs + ops.matmul(weights, value)


class OwnBlock(layers.Layer):
    """Two convolutions and what they are added to; by a mode and a name that it is called with, and outputs
    of which one is always the same."""

    def __init__(self, channels, **options):
        super().__init__(**options)
        self.first = layers.Conv2D(channels, 3, padding="same")
        self.second = layers.Conv2D(channels, 3, padding="same")
        self.drop = layers.Dropout(0.5)

    def call(self, inputs, shortcut=None, training=None):
        x = self.drop(activated(self.first(inputs)), training=training)
        return activated(self.second(x) + shortcut), x, tf.constant([1.0, -2.0, 3.0])


def _own_layers():
    inputs = keras.Input(SHAPE)
    x = OwnAttention()(Patches()(inputs))
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(x[:, 0])))


def _own_layers_within():
    """One of its own within one of its own, behind a convolution with a kernel of its own."""

    class Whole(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(2, 2, 2, 4), name="kernel", initializer="he_normal")
            self.bias = self.add_weight(shape=(4,), name="bias")
            self.shortcut, self.block = layers.Conv2D(3, 1), OwnBlock(3)

        def call(self, inputs):
            x = convolved(inputs, self.kernel) + self.bias
            kept, between, scale = self.block(x, shortcut=self.shortcut(x))
            x = pooled(pooled_greatest(kept) - scale * normalized(between))
            return activated(x, approximate=True)

    inputs = keras.Input(SHAPE)
    x = Whole()(ops.pad(inputs, [[0, 0], [1, 0], [0, 0], [0, 0]], constant_values=0.3))
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(x))))


class OfTensorFlow(layers.Layer):
    """TensorFlow's functions, on either Keras, and weights on their left."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(2, 2, 2, 4), name="kernel", initializer="he_normal")
        self.scale = self.add_weight(shape=(4,), name="scale")
        self.token = self.add_weight(shape=(1, 1, 4), name="token")

    def call(self, inputs):
        x = tf.nn.conv2d(inputs, self.kernel, [1, 2, 2, 1], "VALID")
        size = tf.shape(x)
        x = np.float32(2) * tf.reshape(x, [size[0], size[1] * size[2], 4])
        x = tf.concat([tf.repeat(self.token, size[0], 0), self.scale * x], axis=1)
        weights = tf.nn.softmax(tf.matmul(x, x, transpose_b=True) / np.sqrt(4))
        return tf.nn.gelu(tf.matmul(weights, x), approximate=True) - tf.reduce_mean(x, axis=1, keepdims=True)


def _own_layers_of_tensorflow():
    inputs = keras.Input(SHAPE)
    x = layers.Flatten()(OfTensorFlow()(inputs))
    return randomize(keras.Model(inputs, layers.Dense(CLASSES)(x)))


def _normalization():
    layer = layers.Normalization()
    layer.adapt(images(8))
    return chain(layer, layers.Conv2D(3, 3, activation="relu"))


def _hidden(activation):
    return chain(
        layers.Conv2D(3, 3, strides=2),
        layers.Activation(activation),
        layers.Conv2D(3, 2),
        layers.Activation(activation),
    )


def table():
    """`{name: function that makes the network}`."""
    linear = {
        "dense": lambda: chain(),
        "conv_same": lambda: chain(layers.Conv2D(3, 3, strides=(2, 1), padding="same")),
        "conv_dilated": lambda: chain(layers.Conv2D(3, 2, dilation_rate=(2, 3))),
        "conv_groups": lambda: chain(layers.Conv2D(4, 3, groups=2)),
        "depthwise": lambda: chain(layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same")),
        "depthwise_dilated": lambda: chain(layers.DepthwiseConv2D(2, dilation_rate=2)),
        "transposed": lambda: chain(layers.Conv2DTranspose(2, 3, strides=(2, 1), padding="same")),
        "separable": lambda: chain(layers.SeparableConv2D(3, 3, strides=2, use_bias=False)),
        "batch_normalization": lambda: chain(layers.Conv2D(3, 3), layers.BatchNormalization()),
        "batch_normalization_rows": lambda: chain(layers.BatchNormalization(axis=1, scale=False)),
        "average_pooling": lambda: chain(layers.AveragePooling2D(3, 2, padding="same")),
        "global_average": lambda: chain(layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(keepdims=True)),
        "padding_reshape": lambda: chain(
            layers.ZeroPadding2D(((1, 0), (2, 1))), layers.Reshape((9, 8, 2)), layers.Conv2D(2, 3)
        ),
        "cropping_permute": lambda: chain(
            layers.Cropping2D(((1, 0), (2, 1))), layers.Permute((3, 2, 1)), layers.Conv2D(2, 2)
        ),
        "middle": lambda: chain(layers.CenterCrop(5, 3), layers.Conv2D(2, 2)),
        "mean_and_difference": _mean_and_difference,
        "rescaling": lambda: chain(layers.Rescaling(2.0, -1.0), layers.Conv2D(2, 3)),
        "rescaling_by_pixel": lambda: chain(layers.Rescaling(2.0, -images(1)[0]), layers.Conv2D(2, 3)),
        "enlarged": lambda: chain(layers.UpSampling2D((2, 1)), layers.Conv2D(2, 3)),
        "enlarged_smoothly": lambda: chain(layers.UpSampling2D((1, 2), interpolation="bilinear"), layers.Conv2D(1, 3)),
        "resized": lambda: chain(layers.Resizing(5, 9), layers.Conv2D(2, 3)),
        "arithmetic": _arithmetic,
        "moves": _moves,
        "sums": _sums,
        "parts": _parts,
        "average_of_rows": lambda: chain(layers.Conv2D(4, 3), layers.Reshape((20, 4)), layers.GlobalAveragePooling1D()),
        "sum_with_scale": _sum_with_scale,
        "sum_with_mean": _sum_with_mean,
        "sum_of_ranks": _sum_of_ranks,
    }
    other = {
        "relu": lambda: chain(layers.Conv2D(3, 3, activation="relu"), layers.Conv2D(3, 2), layers.ReLU()),
        "leaky_relu": lambda: chain(layers.Conv2D(3, 3), layers.LeakyReLU(), layers.Conv2D(3, 2), layers.LeakyReLU()),
        "relu_clipped": lambda: chain(
            layers.Conv2D(3, 3), layers.ReLU(max_value=0.3), layers.Conv2D(3, 2), layers.ReLU(6)
        ),
        "rows": lambda: chain(
            layers.Reshape((14, 6)), layers.Dense(4, activation="relu"), layers.Dense(3, activation="relu")
        ),
        "max_pooling": lambda: chain(layers.Conv2D(4, 3), layers.MaxPooling2D(), layers.ReLU(), layers.Conv2D(3, 2)),
        "max_pooling_same": lambda: chain(
            layers.Conv2D(4, 2, activation="relu"), layers.MaxPooling2D(3, 2, padding="same")
        ),
        "global_max": lambda: chain(
            layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(), layers.Dense(4, activation="relu")
        ),
        "noise": lambda: chain(
            layers.GaussianNoise(0.1), layers.Conv2D(3, 3, activation="relu"), layers.SpatialDropout2D(0.5)
        ),
        "softmax_within": lambda: chain(layers.Conv2D(3, 3), layers.Softmax(), layers.Conv2D(3, 2), layers.Softmax()),
        "normalization": _normalization,
        "centered": lambda: chain(
            layers.Rescaling(1.0, -images(1)[0]),
            layers.Conv2D(8, 1, activation="relu"),
            layers.Conv2D(3, 2),
            layers.ReLU(),
        ),
        "layer_scale": lambda: chain(
            layers.Conv2D(4, 3), convnext.LayerScale(0.5, 4), convnext.StochasticDepth(0.5), layers.ReLU()
        ),
        "elu_with_a_kink": lambda: chain(layers.Conv2D(3, 3), layers.ELU(0.5), layers.Conv2D(3, 2), layers.ELU(2.0)),
        "parametric_relu": _parametric_relu,
        "layer_normalization": lambda: chain(
            layers.Conv2D(4, 3), layers.LayerNormalization(), layers.Conv2D(3, 2, activation="swish")
        ),
        "layer_normalization_of_two": lambda: chain(
            layers.Conv2D(4, 3), layers.LayerNormalization([-1, -2]), layers.Conv2D(3, 2)
        ),
        "layer_normalization_of_all": lambda: chain(
            layers.Conv2D(4, 3), layers.LayerNormalization([1, 2, 3], center=False), layers.Conv2D(3, 2)
        ),
        "attention": _attention,
        "attention_by_keys": lambda: _attention(has_keys=True, value_dim=2, use_bias=False),
        "unit_normalization": lambda: chain(
            layers.Conv2D(4, 3), layers.UnitNormalization(), layers.Conv2D(3, 2), layers.UnitNormalization([1, 2])
        ),
        "group_normalization": lambda: chain(
            layers.Conv2D(4, 3), layers.GroupNormalization(2, scale=False), layers.Conv2D(3, 2, activation="relu")
        ),
        "arithmetic_of_products": _arithmetic_of_products,
        "by_hand": _by_hand,
        "roots": _roots,
        "windows": _windows,
        "gated": _gated,
        "greatest_of_operations": _greatest_of_operations,
        "greatest_and_least": _greatest_and_least,
        "residual": _residual,
        "nested": _nested,
        "own_layers": _own_layers,
        "own_layers_within": _own_layers_within,
        "own_layers_of_tensorflow": _own_layers_of_tensorflow,
    }
    if hasattr(layers, "RMSNormalization"):
        other["rms_normalization"] = lambda: chain(layers.Conv2D(4, 3), layers.RMSNormalization(), layers.Conv2D(3, 2))
    return linear, {**other, **{name: lambda name=name: _hidden(name) for name in ACTIVATIONS}}

"""What tests share: small data, networks and models."""

import keras
import numpy as np
import tensorflow as tf

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


def regularized(
    base=None, weight=1.0, optimizer=None, compile_loss=None, compile_options=None, penalty_every=1, **options
):
    regularizer = fr.FlowGradientRegularizer(weight, **options)
    model = fr.FlowRegularizedModel(base or network(), regularizer, penalty_every=penalty_every)
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    model.compile(optimizer, compile_loss or cross_entropy(), metrics=["accuracy"], **(compile_options or {}))
    return model


def fit(model, *, batch_size=16, epochs=1, size=EXAMPLES, **options):
    images, labels = data(size)
    return model.fit(images, labels, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, **options).history


class Bent(keras.layers.Layer):
    """Its first derivative is right; its second is said to be twice what it is."""

    def call(self, inputs):
        @tf.custom_gradient
        def cube(x):
            @tf.custom_gradient
            def slope(x, upstream):
                return 3 * x**2 * upstream, lambda other: (12 * x * upstream * other, 3 * x**2 * other)

            return x**3, lambda upstream: slope(x, upstream)

        return cube(inputs)

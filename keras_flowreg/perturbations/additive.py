"""Additive noise: one number for each pixel and channel."""

import keras
import tensorflow as tf

from keras_flowreg.perturbations.base import Perturbation


@keras.saving.register_keras_serializable(package="keras_flowreg")
class Additive(Perturbation):
    """T(x; δ) = x + δ, with δ of the shape of x, in the units of the image's values.

    Its pullback is the identity: ∂loss/∂δ = ∂loss/∂T. A penalty on it is input-gradient regularization.
    """

    def parameter_shape(self, images):
        return tf.shape(images)

    def apply(self, images, parameters):
        return images + parameters

    def flow(self, images, parameters):
        shape = tf.concat([tf.shape(images)[:3], [2]], axis=0)
        return tf.ensure_shape(tf.zeros(shape, images.dtype), [*images.shape[:3], 2])

    def linearize(self, images, parameters):
        return self.apply(images, parameters), lambda upstream: upstream

    def linearize_at_identity(self, images):
        return images, lambda upstream: upstream

"""Additive noise: one number for each pixel and channel."""

import keras
import tensorflow as tf

from keras_flowreg.ops.matching import expect_parameters
from keras_flowreg.perturbations.base import Perturbation
from keras_flowreg.types import Images, Parameters, Pullback, ValueRange


@keras.saving.register_keras_serializable(package="keras_flowreg")
class Additive(Perturbation):
    """T(x; δ) = x + δ, with δ of the shape of x, in the units of the image's values.

    The pullback is the identity: ∂loss/∂δ = ∂loss/∂T. A penalty on that is input-gradient regularization.

    ```python
    brighter = fr.perturbations.Additive().apply(images, 0.1 * tf.ones_like(images))
    ```
    """

    def parameter_shape(self, images: Images) -> tf.Tensor:
        return tf.shape(images)

    def apply(self, images: Images, parameters: Parameters) -> tf.Tensor:
        expect_parameters(parameters, images.shape)
        return images + parameters

    def flow(self, images: Images, parameters: Parameters) -> tf.Tensor:
        shape = tf.concat([tf.shape(images)[:3], [2]], axis=0)
        return tf.ensure_shape(tf.zeros(shape, images.dtype), [*images.shape[:3], 2])

    def within(self, images: Images, parameters: Parameters, value_range: ValueRange) -> Parameters:
        return tf.clip_by_value(images + parameters, *value_range) - images

    def linearize(self, images: Images, parameters: Parameters) -> tuple[tf.Tensor, Pullback]:
        return self.apply(images, parameters), lambda upstream: upstream

    def linearize_at_identity(self, images: Images) -> tuple[tf.Tensor, Pullback]:
        return images, lambda upstream: upstream

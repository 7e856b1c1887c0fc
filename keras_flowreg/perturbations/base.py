"""What a perturbation is: a map T(x; θ) with T(x; 0) = x, and how a loss is pulled back through it."""

import hashlib
import json

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_not_negative
from keras_flowreg.types import Config, Images, Parameters, Pullback, Seed, ValueRange


class Perturbation:
    """A map T(x; θ) of images x `[batch, height, width, channels]` by parameters θ `[batch, ...]`.

    The identity is θ = 0. A subclass must give `parameter_shape` and `apply`. The gradient regularizers need nothing else;
    the attacks also need `flow`. A subclass may override `linearize` and `linearize_at_identity` where the derivative has
    a closed form.

    ```python
    class Brightness(fr.perturbations.Perturbation):
        def parameter_shape(self, images):
            return tf.stack([tf.shape(images)[0], 1])

        def apply(self, images, parameters):
            return images + parameters[:, :, tf.newaxis, tf.newaxis]

    gradients = fr.perturbation_gradients(model, Brightness(), images, labels)  # [batch, 1]
    ```
    """

    def parameter_shape(self, images: Images) -> tf.Tensor:
        """The shape of θ for some images. Its first entry is the size of the batch."""
        raise NotImplementedError

    def apply(self, images: Images, parameters: Parameters) -> tf.Tensor:
        """T(x; θ), of the shape and dtype of `images`."""
        raise NotImplementedError

    def flow(self, images: Images, parameters: Parameters) -> tf.Tensor:
        """θ as displacements `[batch, height, width, 2]`, `(dy, dx)` in pixels; zero if it moves no pixels."""
        raise NotImplementedError(f"{type(self).__name__} does not move pixels.")

    def identity(self, images: Images) -> tf.Tensor:
        """θ = 0 for some images, in their dtype."""
        return tf.zeros(self.parameter_shape(images), images.dtype)

    def within(self, images: Images, parameters: Parameters, value_range: ValueRange) -> Parameters:
        """θ, brought back to where the values of T(x; θ) are in a range; by default θ as it is.

        A value out of the range is clipped, and its gradient is zero: no step would lead it back. What comes out is nowhere
        longer than θ.
        """
        return parameters

    def random_start(self, images: Images, stddev: float, seed: Seed) -> tf.Tensor:
        """A normal draw of θ around the identity.

        Args:
          images: `[batch, height, width, channels]`.
          stddev: the standard deviation of each component, in θ's units.
          seed: `[2]` integers.

        Returns:
          θ in the dtype of `images`.
        """
        start = random.normal(self.parameter_shape(images), seed, expect_not_negative("stddev", stddev))
        return tf.cast(start, images.dtype)

    def linearize(self, images: Images, parameters: Parameters) -> tuple[tf.Tensor, Pullback]:
        """Applies the perturbation and gives its pullback, like a vector-Jacobian product.

        Args:
          images: `[batch, height, width, channels]`.
          parameters: θ.

        Returns:
          `(perturbed, pullback)`. `pullback` takes ∂loss/∂perturbed to ∂loss/∂θ = Jᵀ · ∂loss/∂perturbed.
          It is linear, and can itself be differentiated.
        """
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(parameters)
            perturbed = self.apply(images, parameters)

        def pullback(upstream):
            return tape.gradient(perturbed, parameters, output_gradients=upstream)

        return perturbed, pullback

    def linearize_at_identity(self, images: Images) -> tuple[tf.Tensor, Pullback]:
        """`linearize` at θ = 0, where a closed form may need no work to apply."""
        return self.linearize(images, self.identity(images))

    def pullback(self, images: Images, parameters: Parameters, upstream: tf.Tensor) -> tf.Tensor:
        """∂loss/∂θ = Jᵀ · ∂loss/∂T, where `upstream` is ∂loss/∂T, of the shape of the images."""
        return self.linearize(images, parameters)[1](upstream)

    @property
    def sides(self) -> tuple["Perturbation", ...]:
        """The perturbations whose penalties are averaged: this one, unless it stands for several."""
        return (self,)

    def __eq__(self, other):
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self):
        return hash((type(self), self._key()))

    def _key(self):
        """What tells two of a class apart: the configuration, or which object it is if that does not say all."""
        classes = type(self).__mro__
        initialized, configured = (
            next(number for number, each in enumerate(classes) if name in vars(each))
            for name in ("__init__", "get_config")
        )
        has_config = type(self).get_config is not Perturbation.get_config
        says_all = not vars(self) or (has_config and configured <= initialized)
        return json.dumps(self.get_config(), sort_keys=True, default=_identified) if says_all else id(self)

    def get_config(self) -> Config:
        """The arguments of the constructor, by name."""
        return {}

    @classmethod
    def from_config(cls, config: Config) -> "Perturbation":
        return cls(**config)


def _identified(value):
    """What tells a value apart: an array by what is in it, a variable by which it is, anything else by how it is printed."""
    is_constant = tf.is_tensor(value) and hasattr(value, "numpy") and not isinstance(value, tf.Variable)
    if is_constant or isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
    return [type(value).__name__, id(value) if tf.is_tensor(value) else repr(value)]


@keras.saving.register_keras_serializable(package="keras_flowreg")
class TapeLinearized(Perturbation):
    """Another perturbation, differentiated by a tape through its `apply`. It checks a closed form.

    ```python
    flow = fr.perturbations.TapeLinearized(fr.perturbations.Flow())
    gradients = fr.perturbation_gradients(model, flow, images, labels)
    ```

    Args:
      perturbation: a `Perturbation`, whose own `linearize` is not used.
    """

    def __init__(self, perturbation: Perturbation):
        self.perturbation = perturbation

    def parameter_shape(self, images: Images) -> tf.Tensor:
        return self.perturbation.parameter_shape(images)

    def apply(self, images: Images, parameters: Parameters) -> tf.Tensor:
        return self.perturbation.apply(images, parameters)

    def flow(self, images: Images, parameters: Parameters) -> tf.Tensor:
        return self.perturbation.flow(images, parameters)

    def within(self, images: Images, parameters: Parameters, value_range: ValueRange) -> Parameters:
        return self.perturbation.within(images, parameters, value_range)

    @property
    def sides(self) -> tuple[Perturbation, ...]:
        return tuple(TapeLinearized(side) for side in self.perturbation.sides)

    def _key(self):
        return self.perturbation

    def get_config(self) -> Config:
        return {"perturbation": keras.saving.serialize_keras_object(self.perturbation)}

    @classmethod
    def from_config(cls, config: Config) -> "TapeLinearized":
        return cls(keras.saving.deserialize_keras_object(config["perturbation"]))

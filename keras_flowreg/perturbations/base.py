"""What a perturbation is: a map T(x; θ) with T(x; 0) = x, and how a loss is pulled back through it."""

import json

import tensorflow as tf

from keras_flowreg.ops import random


class Perturbation:
    """A map T(x; θ) of images x `[batch, height, width, channels]` by parameters θ `[batch, ...]`.

    The identity is θ = 0. A subclass must give `parameter_shape` and `apply`; it may override
    `linearize` and `linearize_at_identity` where the derivative has a closed form. The gradient
    regularizers and the attacks need nothing else.
    """

    def parameter_shape(self, images):
        """The shape of θ for `images`, as a `Tensor`; its first entry is the batch."""
        raise NotImplementedError

    def apply(self, images, parameters):
        """T(x; θ), of the shape and dtype of `images`."""
        raise NotImplementedError

    def flow(self, images, parameters):
        """θ as displacements, `[batch, height, width, 2]`, `(dy, dx)` in pixels, if it moves pixels."""
        raise NotImplementedError(f"{type(self).__name__} does not move pixels.")

    def identity(self, images):
        """θ = 0 for `images`, in their dtype."""
        return tf.zeros(self.parameter_shape(images), images.dtype)

    def random_start(self, images, stddev, seed):
        """A normal draw of θ around the identity.

        Args:
          images: `[batch, height, width, channels]`.
          stddev: standard deviation of each component, in θ's units.
          seed: `[2]` integers.

        Returns:
          θ in the dtype of `images`.
        """
        start = random.normal(self.parameter_shape(images), seed, stddev)
        return tf.cast(start, images.dtype)

    def linearize(self, images, parameters):
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

    def linearize_at_identity(self, images):
        """`linearize` at θ = 0, where a closed form may need no work to apply."""
        return self.linearize(images, self.identity(images))

    def pullback(self, images, parameters, upstream):
        """∂loss/∂θ = Jᵀ · ∂loss/∂T for one `upstream` = ∂loss/∂T, of the shape of `images`."""
        return self.linearize(images, parameters)[1](upstream)

    @property
    def sides(self):
        """The perturbations whose penalties are averaged: this one, unless it stands for several."""
        return (self,)

    def __eq__(self, other):
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self):
        return hash((type(self), self._key()))

    def _key(self):
        """What tells two of a class apart: the configuration, or which object it is if that says nothing."""
        has_config = type(self).get_config is not Perturbation.get_config or not vars(self)
        return json.dumps(self.get_config(), sort_keys=True, default=repr) if has_config else id(self)

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class TapeLinearized(Perturbation):
    """Another perturbation, linearized by a tape through its `apply`: the check on a closed form.

    Args:
      perturbation: the `Perturbation` whose own `linearize` is not to be used.
    """

    def __init__(self, perturbation):
        self.perturbation = perturbation

    def parameter_shape(self, images):
        return self.perturbation.parameter_shape(images)

    def apply(self, images, parameters):
        return self.perturbation.apply(images, parameters)

    def flow(self, images, parameters):
        return self.perturbation.flow(images, parameters)

    @property
    def sides(self):
        return tuple(TapeLinearized(side) for side in self.perturbation.sides)

"""Random flows: the floor that every search must beat."""

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_positive_integer
from keras_flowreg.perturbations import Flow


@keras.saving.register_keras_serializable(package="keras_flowreg")
class RandomFlow(Attack):
    """The worst of several uniform draws from the ball, for each example on its own.

    Args:
      model: as `Attack`.
      epsilon: the radius of the ball, in pixels.
      draws: how many.
      norm: `"linf"`, `"pixel_l2"` or `"l2"`; see `FlowPGD`.
      **options: `loss`, `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.
    """

    uses_gradients = False

    def __init__(self, model, epsilon, draws=10, *, norm="linf", **options):
        super().__init__(model, **options)
        self.draws = expect_positive_integer("draws", draws)
        self.norm = norm
        self.ball = balls.get(norm, epsilon)

    @property
    def perturbation(self):
        return Flow()

    def search(self, examples, clean, seed):
        def step(count, examples, state):
            return self.judge(examples, draw_from_ball(self.ball, examples, random.fold_in(seed, count))), state

        return self.iterate(step, self.draws, examples, clean, ())[0]

    def options(self):
        return {**super().options(), "epsilon": self.ball.epsilon, "draws": self.draws, "norm": self.norm}


def draw_from_ball(ball, examples, seed):
    """A uniform draw of a flow for each example."""
    shape = tf.shape(examples.images)
    flow = examples.draw(lambda batch: ball.sample(tf.stack([batch, shape[1], shape[2], 2]), seed))
    return tf.ensure_shape(tf.cast(flow, examples.images.dtype), [*examples.images.shape[:3], 2])

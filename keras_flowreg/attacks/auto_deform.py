"""The worst case over a fixed choice of attacks."""

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack, Candidate
from keras_flowreg.attacks.fgsm import FlowFGSM
from keras_flowreg.attacks.flow_pgd import FlowPGD
from keras_flowreg.attacks.frank_wolfe import FlowFrankWolfe
from keras_flowreg.attacks.random_flow import RandomFlow
from keras_flowreg.attacks.square import FlowSquare
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.perturbations import Flow

NORMS = ("linf", "pixel_l2")
# Cheapest first: an example that one breaks is not worked on by those after it.
MEMBERS = (
    (RandomFlow, {"draws": 5}),
    (FlowFGSM, {}),
    (FlowFrankWolfe, {"steps": 20}),
    (FlowFrankWolfe, {"steps": 50, "loss": "margin", "random_start": True, "restarts": 2}),
    (FlowPGD, {"steps": 50, "loss": "margin", "momentum": 0.75, "step_decay": "cosine", "random_start": False}),
    (FlowSquare, {"queries": 500, "loss": "margin"}),
)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class AutoDeform(Attack):
    """The worst case over flows of a ball, by a fixed choice of attacks: nothing to tune, and nothing to mistune.

    Random flows, one gradient step, Frank-Wolfe ascent of the loss, then of the margin from two random starts,
    projected gradient ascent of the margin, and a gradient-free random search, which catches a model whose
    gradients are masked. Each works only on the examples that none before it has broken.

    Args:
      model: as `Attack`.
      epsilon: the radius of the ball, in pixels.
      norm: `"linf"` or `"pixel_l2"`; see `FlowPGD`.
      **options: `loss`, `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`. The loss is what
        the first members raise, and what the best candidate is chosen by.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", 2020, for the idea.
    """

    def __init__(self, model, epsilon, *, norm="linf", **options):
        super().__init__(model, **options)
        self.norm = expect_one_of("norm", norm, NORMS)
        self.ball = balls.get(norm, epsilon)

    @property
    def perturbation(self):
        return Flow()

    def search(self, examples, clean, seed):
        best = clean
        for number, (kind, options) in enumerate(MEMBERS):
            best = self._run_member(self._member(kind, options), examples, best, random.fold_in(seed, number))
        return best

    def _member(self, kind, options):
        shared = {"loss": self.loss, "targeted": self.targeted, "value_range": self.value_range, "norm": self.norm}
        return kind(self.model, self.ball.epsilon, **{**shared, **options})

    def _run_member(self, member, examples, best, seed):
        """Has a member search the examples that are left, and judges what it found by this attack's loss."""

        def step(count, examples, state):
            losses, success = member._evaluate(examples.images, examples.labels)
            clean = Candidate(tf.zeros_like(state), success, losses, tf.zeros_like(success, tf.int32))
            found = member.search(examples._replace(clean_loss=losses), clean, seed)
            judged = self.judge(examples, found.parameters)
            return judged._replace(queries=judged.queries + found.queries + 1), state

        return self.iterate(step, 1, examples, best, best.parameters)[0]

    def options(self):
        return {**super().options(), "epsilon": self.ball.epsilon, "norm": self.norm}

"""The worst case over a fixed choice of attacks."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.chunks import search_in_chunks
from keras_flowreg.attacks.fgsm import FlowFGSM
from keras_flowreg.attacks.flow_pgd import FlowPGD
from keras_flowreg.attacks.frank_wolfe import FlowFrankWolfe
from keras_flowreg.attacks.leads import lead_is_below
from keras_flowreg.attacks.raised_loss import RaisedLoss
from keras_flowreg.attacks.random_flow import RandomFlow
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate
from keras_flowreg.attacks.square import FlowSquare
from keras_flowreg.ops import random
from keras_flowreg.ops.labels import other_class
from keras_flowreg.ops.losses import resolve_loss
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.perturbations import Flow, Perturbation
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange


class Member(NamedTuple):
    """One of the attacks, and whom it searches: those whose lead has fallen below a part of what it was."""

    attack: Callable[..., Attack]
    options: dict[str, Any]
    lead: float = 1.0  # 1 for all that are left
    classes: int = 9  # how many other classes it seeks, the likeliest ones, if it is targeted
    step_size: Optional[float] = None  # in ε; None for the attack's own

    def build(self, epsilon: float, **shared: Any) -> Attack:
        """The attack, with the options that all members share where it has none of its own."""
        step_size = {} if self.step_size is None else {"step_size": self.step_size * epsilon}
        return self.attack(epsilon, **{**shared, **step_size, **self.options})

    def settings(self) -> dict[str, Any]:
        """What it is, as plain values."""
        rest = {name: value for name, value in self._asdict().items() if name not in ("attack", "options")}
        return {"class": self.attack.__name__, **self.options, **rest}


# The cheapest come first: those after a member do not search the examples that it has fooled. Long searches and most starts
# are for where they pay, where little is missing. The random search, which needs no gradient, looks at all.
_MARGIN = {"loss": "margin"}
_TARGETED = {**_MARGIN, "targeted": True}
_RESTARTED = {**_MARGIN, "steps": 20, "momentum": 0.0, "start": "random"}
_MEMBERS = (
    Member(RandomFlow, {"draws": 5}),
    Member(FlowFGSM, {}),
    Member(FlowFrankWolfe, {"steps": 20}),
    Member(FlowFrankWolfe, {**_TARGETED, "steps": 10}),
    Member(FlowFrankWolfe, {**_RESTARTED, "restarts": 10}, step_size=1.0),
    Member(FlowFrankWolfe, {**_RESTARTED, "restarts": 10}, step_size=2.0),
    Member(FlowFrankWolfe, {**_TARGETED, "steps": 30}, lead=0.5, classes=3),
    Member(FlowPGD, {**_MARGIN, "steps": 50, "momentum": 0.75, "step_decay": "cosine", "start": "zero"}, lead=0.5),
    Member(FlowSquare, {**_MARGIN, "queries": 500}),
    Member(FlowFrankWolfe, {**_TARGETED, "steps": 30, "start": "random", "restarts": 2}, lead=0.1),
    Member(FlowFrankWolfe, {**_RESTARTED, "restarts": 15}, lead=0.1, step_size=1.0),
    Member(FlowFrankWolfe, {**_RESTARTED, "restarts": 15}, lead=0.1, step_size=2.0),
)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class AutoDeform(Attack):
    """The worst case over flows of a ball, by a fixed choice of attacks, with nothing to tune.

    The members are random flows, one gradient step, Frank-Wolfe ascent of the loss, Frank-Wolfe ascent towards each of the
    likeliest nine other classes, Frank-Wolfe ascent of the margin from 20 random starts, half of them with steps across the
    whole ball, projected gradient ascent of the margin, and a gradient-free random search, which exposes a model whose
    gradients are masked. Each works only on the examples that the members before it have not fooled. Longer searches only
    go on where these have left less than half of the margin; where they have left less than a tenth, searches towards each
    class and of the margin start anew 32 times. On a model without a gradient, the members that need one are left out.

    ```python
    adversarial_images = fr.attacks.AutoDeform(epsilon=0.4)(images, labels, model=model)
    ```

    Args:
      epsilon: the radius of the ball, in pixels.
      norm: `"linf"` or `"pixel_l2"`; see `FlowPGD`.
      loss: the loss that the first members raise, and that the best candidate is chosen by; see `Attack`.
      targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", 2020, for the idea.
    """

    epsilon: float
    needs_gradient = False
    is_compiled = False

    def __init__(
        self,
        epsilon: float,
        *,
        norm: str = "linf",
        loss: Optional[Loss] = None,
        targeted: bool = False,
        value_range: ValueRange = (0.0, 1.0),
        seed: int = 0,
        jit_compile: JitCompile = "auto",
        name: Optional[str] = None,
    ):
        super().__init__(
            loss=loss, targeted=targeted, value_range=value_range, seed=seed, jit_compile=jit_compile, name=name
        )
        self.norm = expect_one_of("norm", norm, balls.PER_PIXEL_NORMS)
        self.epsilon = balls.get(norm, epsilon).epsilon

    @property
    def perturbation(self) -> Perturbation:
        return Flow()

    @property
    def ball(self) -> balls.Ball:
        return balls.get(self.norm, self.epsilon)

    def members(self) -> list[Attack]:
        """The attacks, in their order. A member without a loss of its own raises the loss of this attack."""
        shared = {"targeted": self.targeted, "value_range": self.value_range, "norm": self.norm}
        return [member.build(self.epsilon, **shared) for member in _MEMBERS]

    def settings(self) -> dict[str, Any]:
        """Those of every attack; and the choice of members, each with its own options and whom it searches."""
        return {**super().settings(), "members": [member.settings() for member in _MEMBERS]}

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        best = clean
        for number, (member, choice) in enumerate(zip(self.members(), _MEMBERS)):
            if objective.classifier.has_gradient or not member.needs_gradient:
                # A targeted attack has its one class, and each member searches for it.
                runs = 1
                if member.targeted and not self.targeted:
                    runs = _other_classes(choice.classes, objective, examples)
                sought = _sought(choice.lead, objective, examples, best)
                found = _run_member(member, objective, examples, sought, random.fold_in(seed, number), runs)
                best = found._replace(success=best.success | (found.success & ~sought.success))
        return best


def _sought(lead, objective, examples, best):
    """The candidates, with those whose lead is large marked as done. To see that takes two queries."""
    if lead == 1:
        return best
    queries = best.queries + 2 * tf.cast(examples.are_open(best), tf.int32)
    is_near = lead_is_below(lead, objective, examples, best)
    return best._replace(success=best.success | ~is_near, queries=queries)


def _other_classes(most, objective, examples):
    """How many classes a targeted member seeks."""
    classes = objective.classifier.predict(examples.images).shape[1]
    return most if classes is None else min(classes - 1, most)


def _run_member(member, objective, examples, best, seed, runs):
    """Has a member search the examples that are left, and queries what it found for the whole attack's loss.

    In several runs its targets are the likeliest other class, then the next one, and so on.
    """
    raised = RaisedLoss(resolve_loss(member.loss, objective.raised.loss), member.targeted)
    member_objective = objective._replace(raised=raised, perturbation=member.perturbation)

    def search(run, examples):
        sought = examples
        if member.targeted and not objective.raised.targeted:
            predictions = objective.classifier.predict(examples.images)
            sought = examples._replace(labels=other_class(examples.labels, predictions, run))
        _, found = member_objective.search(member, sought, seed)
        candidate = objective.query(examples, found.parameters)
        return candidate._replace(queries=candidate.queries + found.queries)

    def step(run, examples, state):
        one_run = functools.partial(search, run)
        return (search_in_chunks(one_run, examples) if in_chunks else one_run(examples)), state

    # XLA's programs are for batches of a fixed size. Outside of them examples may leave.
    in_chunks = tf.executing_eagerly() and not examples.compact
    examples = examples._replace(compact=examples.compact or in_chunks)
    return iterate(step, runs, examples, best, best.parameters)[0]

"""The worst case over a fixed choice of attacks."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks.ball_attack import BallAttack
from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.chunks import search_in_chunks
from keras_flowreg.attacks.coordinate_ascent import FlowCoordinateAscent
from keras_flowreg.attacks.fgsm import FlowFGSM
from keras_flowreg.attacks.flow_pgd import FlowPGD
from keras_flowreg.attacks.frank_wolfe import FlowFrankWolfe
from keras_flowreg.attacks.leads import lead_is_below
from keras_flowreg.attacks.random_flow import RandomFlow
from keras_flowreg.attacks.search import Candidate, Examples, Objective, iterate, select
from keras_flowreg.attacks.square import FlowSquare
from keras_flowreg.attacks.starts import Starts
from keras_flowreg.ops import random
from keras_flowreg.ops.labels import other_class
from keras_flowreg.ops.losses import resolve_loss
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.perturbations import Flow, Perturbation
from keras_flowreg.types import JitCompile, Loss, Seed, ValueRange


class Member(NamedTuple):
    """One of the attacks, how often it runs, and which of the examples that are left it searches."""

    attack: Callable[..., Attack]
    options: dict[str, Any]
    step_size: Optional[float] = None  # in ε; None for the attack's own
    classes: int = 9  # runs of a targeted attack: one for each other class, the likeliest first
    starts: int = 1  # runs of another one: each with its own seed
    lead: float = 1.0  # searches where the lead has fallen below this part of what it was
    deviations: Optional[float] = None  # where success is within so many deviations of what starts came to

    def build(self, epsilon: float, **shared: Any) -> Attack:
        """The attack, with the options that all members share where it has none of its own."""
        step_size = {} if self.step_size is None else {"step_size": self.step_size * epsilon}
        return self.attack(epsilon, **{**shared, **step_size, **self.options})

    def settings(self) -> dict[str, Any]:
        """What it is, as plain values."""
        rest = {name: value for name, value in self._asdict().items() if name not in ("attack", "options")}
        return {"class": self.attack.__name__, **self.options, **rest}


# The cheapest come first: those after a member do not search the examples that it has fooled. Long searches are for where
# little is missing, and sweeps over single pixels for where starts differ. The random search, which needs no gradient,
# looks at all.
_MARGIN = {"loss": "margin"}
_TARGETED = {**_MARGIN, "targeted": True}
_SHORT = {**_MARGIN, "steps": 20, "momentum": 0.0, "start": "random"}
_SWEEPS = {**_MARGIN, "steps": 20, "sweeps": 3, "pixels": 400}
_NEAR = 10.0
_MEMBERS = (
    Member(RandomFlow, {"draws": 5}),
    Member(FlowFGSM, {}),
    Member(FlowFrankWolfe, {"steps": 20}),
    Member(FlowFrankWolfe, {**_TARGETED, "steps": 10}),
    Member(FlowFrankWolfe, _SHORT, step_size=1.0, starts=4),
    Member(FlowFrankWolfe, _SHORT, step_size=2.0, starts=4),
    Member(FlowFrankWolfe, {**_TARGETED, "steps": 30}, classes=3, lead=0.5),
    Member(FlowPGD, {**_MARGIN, "steps": 50, "momentum": 0.75, "step_decay": "cosine", "start": "zero"}, lead=0.5),
    Member(FlowSquare, {**_MARGIN, "queries": 500}),
    Member(FlowCoordinateAscent, {**_SWEEPS, "momentum": 0.0}, step_size=2.0, starts=2, deviations=_NEAR),
    Member(FlowCoordinateAscent, _SWEEPS, starts=2, deviations=_NEAR),
    Member(FlowFrankWolfe, {**_TARGETED, "steps": 30, "start": "random", "restarts": 2}, deviations=_NEAR),
)


@keras.saving.register_keras_serializable(package="keras_flowreg")
class AutoDeform(BallAttack):
    """The worst case over flows of a ball, by a fixed choice of attacks, with nothing to tune.

    The members are random flows, one gradient step, and Frank-Wolfe ascent: of the loss, towards each of the likeliest nine
    other classes, and of the margin from eight random starts, half of them with steps across the whole ball. Where these
    leave less than half of the margin, longer searches follow, towards three classes and by projected gradients. A
    gradient-free random search exposes a model whose gradients are masked. Last, where the outcomes of the random starts
    differ so much that success is within ten of their standard deviations, single pixels are tried after four more
    starts, and two starts lead to each class. Each member works only on the examples that those before it have not
    fooled. On a model without a gradient, the members that need one are left out.

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

    def members(self) -> list[Attack]:
        """The attacks, in their order. A member without a loss of its own raises the loss of this attack."""
        shared = {"targeted": self.targeted, "value_range": self.value_range, "norm": self.norm}
        return [member.build(self.epsilon, **shared) for member in _MEMBERS]

    def settings(self) -> dict[str, Any]:
        """Those of every attack; and the choice of members, each with its own options and whom it searches."""
        return {**super().settings(), "members": [member.settings() for member in _MEMBERS]}

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        best, starts = clean, Starts.none(clean.loss)
        for number, (member, choice) in enumerate(zip(self.members(), _MEMBERS)):
            if objective.classifier.has_gradient or not member.needs_gradient:
                is_sought, best = _sought(choice, objective, examples, best, starts)
                done = best._replace(success=best.success | ~is_sought)
                found, noted = _run_member(
                    member, choice, objective, examples, done, starts, random.fold_in(seed, number)
                )
                best = select(is_sought, found, best)._replace(queries=found.queries)
                starts = select(is_sought, noted, starts)
        return best


def _sought(choice, objective, examples, best, starts):
    """Which examples a member searches, and the candidates: to see a lead takes two queries."""
    queries, is_sought = best.queries, tf.ones_like(best.success)
    if choice.lead < 1:
        queries += 2 * tf.cast(examples.are_open(best), tf.int32)
        is_sought = lead_is_below(choice.lead, objective, examples, best)
    if choice.deviations is not None:
        is_sought &= starts.may_exceed(0.0, choice.deviations)
    return is_sought, best._replace(queries=queries)


def _run_member(member, choice, objective, examples, best, starts, seed):
    """Has a member search the examples that are left, and queries what it found for the whole attack's loss.

    A targeted member is led to the likeliest other class, then to the next one, and so on. What comes of random starts is
    noted, of those with sweeps, too.
    """
    loss = resolve_loss(member.loss, objective.raised.loss)
    raised = objective.raised._replace(loss=loss, targeted=member.targeted)
    member_objective = objective._replace(raised=raised, perturbation=member.perturbation)
    # A targeted attack has its one class, and each member searches for it.
    seeks_classes = member.targeted and not objective.raised.targeted

    def search(run, examples):
        sought = examples
        if seeks_classes:
            predictions = objective.classifier.predict(examples.images)
            sought = examples._replace(labels=other_class(examples.labels, predictions, run))
        _, found = member_objective.search(member, sought, random.fold_in(seed, run))
        candidate = objective.query(examples, found.parameters)
        return candidate._replace(queries=candidate.queries + found.queries + int(seeks_classes)), found.loss

    def step(run, examples, starts):
        one_run = functools.partial(search, run)
        candidate, outcome = search_in_chunks(one_run, examples) if in_chunks else one_run(examples)
        return candidate, starts.add(outcome) if choice.starts > 1 else starts

    # XLA's programs are for batches of a fixed size. Outside of them examples may leave.
    in_chunks = tf.executing_eagerly() and not examples.compact
    examples = examples._replace(compact=examples.compact or in_chunks)
    runs = _other_classes(choice.classes, objective, examples) if seeks_classes else choice.starts
    return iterate(step, runs, examples, best, starts)


def _other_classes(most, objective, examples):
    """How many classes are sought."""
    classes = objective.classifier.classes(examples.images)
    return most if classes is None else min(classes - 1, most)

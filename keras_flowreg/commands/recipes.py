"""Named ways to train: which penalty, which attack, how strong, and for how long."""

import dataclasses
from typing import Any, Optional

import keras_flowreg as fr
from keras_flowreg.commands import training
from keras_flowreg.types import KerasModel

REGULARIZERS = ("flow_gradient", "input_gradient")
CONSISTENCY = "flow_consistency"
CERTIFIED = "certified_training"
ATTACKS = ("deformation_training", "intensity_training")
METHODS = (
    "plain",
    *REGULARIZERS,
    CONSISTENCY,
    *ATTACKS,
    CERTIFIED,
    *(f"{regularizer}+{attack}" for regularizer in REGULARIZERS for attack in ATTACKS),
)


# Those that deformation_training may train on.
DEFORMATIONS = {
    "FlowPGD": fr.attacks.FlowPGD,
    "FlowFrankWolfe": fr.attacks.FlowFrankWolfe,
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train one model.

    Attributes:
      method: what trains against deformations, one of `METHODS`.
      weight: the weight of the penalty, or of the bound of `certified_training`.
      penalized_loss: the loss whose gradient is penalized, as `fr.GradientRegularizer` takes it; `None` for the trained
        loss.
      random_start: the standard deviation of the penalty's start, in pixels; in values for `input_gradient`.
      lattice: the warp's derivative at a pixel, for `flow_gradient`.
      gradient_norm: what is penalized of the gradient: `"squared_l2"`, `"l2"` or `"l1"`.
      gradient_at: where the penalized gradient is taken: `"start"` or `"identity"`.
      penalty_method: how the penalty is differentiated: `"exact"` or `"finite_difference"`.
      model_mode: the mode of the network in which the gradient is taken: `"training"` or `"inference"`.
      penalty_every: the penalty is taken in each `penalty_every`-th step.
      fraction: the part of each batch whose penalty is taken.
      deformation: the attack that `deformation_training` trains on, one of `DEFORMATIONS`.
      epsilon: the radius of that attack, of `flow_consistency` or of the bound of `certified_training`, in pixels; in values
        for `intensity_training`.
      steps: the steps of that attack.
      clean_fraction: the part of each batch that is not attacked.
      crown_ibp: the part of CROWN-IBP in the bound of `certified_training` at radius zero, which falls to 0 at the whole one.
      warmup_weight: the weight of the penalties on that bound at radius zero, which falls to 0, too.
      box_part: the part of each pixel's interval that is bounded, around an attack's image.
      label_smoothing: the part of each label's probability that all classes share.
      activation: the activation of the network's hidden layers, one of `architectures.ACTIVATIONS`.
      schedule: how long and how fast to train.

    Raises:
      ValueError: if an option is out of its range.
    """

    method: str
    weight: float = 0.0
    penalized_loss: Optional[str] = None
    random_start: float = 0.0
    lattice: str = "two_sided"
    gradient_norm: str = "squared_l2"
    gradient_at: str = "start"
    penalty_method: str = "exact"
    model_mode: str = "training"
    penalty_every: int = 1
    fraction: float = 1.0
    deformation: str = "FlowPGD"
    epsilon: float = 0.0
    steps: int = 3
    clean_fraction: float = 0.0
    crown_ibp: float = 0.0
    warmup_weight: float = 0.0
    box_part: float = 1.0
    label_smoothing: float = 0.0
    activation: str = "relu"
    schedule: training.Schedule = training.Schedule()

    def __post_init__(self):
        # What checks the options is built for that, before a data set is loaded.
        self._regularizer()
        self._attack(0)
        if not 0 <= self.clean_fraction < 1:
            raise ValueError(
                f"Expected `clean_fraction` to be from 0 to less than 1. Received {self.clean_fraction!r}."
            )
        if self.method == CERTIFIED and self.label_smoothing:
            raise ValueError(
                f"Expected `label_smoothing` to be 0 for {CERTIFIED}. Received {self.label_smoothing!r}: its loss falls where "
                "leads that are large get smaller."
            )

    @property
    def attack_name(self) -> Optional[str]:
        """The part of the method that attacks, or `None`."""
        return next((name for name in ATTACKS if name in self.method), None)

    @property
    def regularizer_name(self) -> Optional[str]:
        """The part of the method that penalizes, or `None`."""
        return next((name for name in (*REGULARIZERS, CONSISTENCY, CERTIFIED) if name in self.method), None)

    def build(self, network: KerasModel, seed: int) -> fr.FlowRegularizedModel:
        """The `FlowRegularizedModel` that trains `network` so."""
        if self.method == CERTIFIED:
            fr.certification.initialize(network, seed)
        return fr.FlowRegularizedModel(
            network,
            self._regularizer(),
            self._attack(seed),
            penalty_every=self.penalty_every,
            clean_fraction=self.clean_fraction,
            seed=seed,
        )

    def _regularizer(self):
        options: dict[str, Any] = {
            "loss": self.penalized_loss,
            "random_start": self.random_start,
            "gradient_at": self.gradient_at,
            "gradient_norm": self.gradient_norm,
            "method": self.penalty_method,
            "model_mode": self.model_mode,
            "fraction": self.fraction,
        }
        if self.regularizer_name == "flow_gradient":
            return fr.FlowGradientRegularizer(self.weight, lattice=self.lattice, **options)
        if self.regularizer_name == "input_gradient":
            return fr.InputGradientRegularizer(self.weight, **options)
        if self.regularizer_name == CONSISTENCY:
            return fr.FlowConsistencyRegularizer(self.epsilon, self.weight)
        if self.regularizer_name == CERTIFIED:
            return fr.IntervalBoundRegularizer(
                self.epsilon,
                self.weight,
                crown_ibp=(self.crown_ibp, 0.0),
                warmup_weight=self.warmup_weight,
                box_part=self.box_part,
            )
        return None

    def _attack(self, seed):
        if self.attack_name is None:
            return None
        kind = fr.attacks.IntensityPGD if self.attack_name == "intensity_training" else DEFORMATIONS[self.deformation]
        return kind(self.epsilon, steps=self.steps, seed=seed)


# Weights are those that docs/reproduction.md chose on held-out training images; MNIST's are those of digits. On CIFAR-10
# the flow gradient's is chosen with the smooth activation; all others are with ReLU.
_SCHEDULES = {
    "digits": training.Schedule(epochs=16),
    "mnist": training.Schedule(epochs=8),
    "fashion_mnist": training.Schedule(epochs=10),
    "cifar10": training.Schedule(epochs=30, learning_rate=0.1, weight_decay=5e-4),
}
_CERTIFIED_SCHEDULES = {
    "digits": training.Schedule(epochs=40, optimizer="adam", learning_rate=5e-3),
    "mnist": training.Schedule(epochs=20, optimizer="adam", learning_rate=5e-3),
    "fashion_mnist": training.Schedule(epochs=20, optimizer="adam", learning_rate=5e-3),
    "cifar10": training.Schedule(epochs=20, optimizer="adam", learning_rate=1e-3),
}
_WEIGHTS = {
    "flow_gradient": {"digits": 55.0, "mnist": 55.0, "fashion_mnist": 10.0, "cifar10": 3.0},
    "input_gradient": {"digits": 10.0, "mnist": 10.0, "fashion_mnist": 1.0, "cifar10": 0.01},
    CONSISTENCY: {"digits": 1.0, "mnist": 1.0, "*": 3.0},
    CERTIFIED: {"digits": 2.0, "mnist": 0.5, "cifar10": 0.3, "*": 1.0},
}
_ACTIVATIONS = {"fashion_mnist": "swish", "cifar10": "swish", "*": "relu"}
_RANDOM_STARTS = {"flow_gradient": {"cifar10": 0.155, "*": 0.25}, "*": {"*": 0.0}}
_RADII = {
    CONSISTENCY: {"cifar10": 0.155, "fashion_mnist": 0.2, "*": 0.4},
    CERTIFIED: {"cifar10": 0.155, "*": 0.4},
    "deformation_training": {"cifar10": 0.155, "*": 0.4},
    "intensity_training": {"digits": 0.1, "mnist": 0.1, "fashion_mnist": 0.05, "cifar10": 4 / 255},
}
# A penalty beside an attack needs less weight: both at full weight train too little.
_SHARE_BESIDE_AN_ATTACK = 0.2


def get(method: str, dataset: str) -> Recipe:
    """The recipe for a method on a data set; for a data set without one of its own, CIFAR-10's.

    Raises:
      ValueError: if the method is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"Expected `method` to be one of {', '.join(METHODS)}. Received: method={method!r}")
    recipe = Recipe(method, activation=_of(_ACTIVATIONS, dataset), schedule=_of(_SCHEDULES, dataset))
    if method == CERTIFIED:
        schedule = _of(_CERTIFIED_SCHEDULES, dataset)
        return dataclasses.replace(
            recipe,
            weight=_of(_WEIGHTS[method], dataset),
            epsilon=_of(_RADII[method], dataset),
            activation="relu",
            schedule=schedule,
        )
    if recipe.regularizer_name:
        weight = _of(_WEIGHTS[recipe.regularizer_name], dataset)
        recipe = dataclasses.replace(
            recipe,
            weight=weight * _SHARE_BESIDE_AN_ATTACK if recipe.attack_name else weight,
            random_start=0.0 if recipe.attack_name else _of(_of(_RANDOM_STARTS, recipe.regularizer_name), dataset),
        )
    of_radius = recipe.attack_name or recipe.regularizer_name
    return dataclasses.replace(recipe, epsilon=_of(_RADII[of_radius], dataset)) if of_radius in _RADII else recipe


def _of(table, name):
    return table.get(name, table.get("*", table.get("cifar10")))

"""The studies that reproduce.py can run, by name."""

import dataclasses

import keras_flowreg as fr
from flowreg_examples.study import Setting, Study
from keras_flowreg.commands.training import Schedule
from keras_flowreg.ops.warp import LATTICE_RULES

_PAPER_EPSILON = fr.pixels_from_normalized(0.01, 32)


def _few_attacks(setting):
    """By gradient, and without."""
    attacks = {
        "FlowPGD": fr.attacks.FlowPGD(setting.epsilon),
        "FlowFrankWolfe": fr.attacks.FlowFrankWolfe(setting.epsilon),
        "RotationTranslation": _rotations(),
    }
    return attacks, dict.fromkeys(attacks, setting.epsilons)


def _all_attacks(setting):
    """Every attack, at one radius if it is slow."""
    authors = _authors_attack(setting)
    attacks = {
        "FlowFGSM": fr.attacks.FlowFGSM(setting.epsilon),
        "FlowPGD": fr.attacks.FlowPGD(setting.epsilon),
        "authors' K=100": authors,
        "FlowFrankWolfe": fr.attacks.FlowFrankWolfe(setting.epsilon),
        "FlowSquare": fr.attacks.FlowSquare(setting.epsilon, queries=200, loss="margin"),
        "AutoDeform": fr.attacks.AutoDeform(setting.epsilon),
        "RotationTranslation": _rotations(),
        "ADef": fr.attacks.ADef(steps=25),
        "StAdv": fr.attacks.StAdv(steps=40, searches=3),
    }
    one_radius = {
        "FlowSquare": [setting.epsilon],
        "AutoDeform": [setting.epsilon],
        "authors' K=100": [authors.epsilon],
    }
    return attacks, {**dict.fromkeys(attacks, setting.epsilons), **one_radius}


def _every_kind_of_attack(setting):
    """Every attack, and both that need no gradient."""
    attacks, radii = _all_attacks(setting)
    attacks["FlowSPSA"] = fr.attacks.FlowSPSA(setting.epsilon, queries=200, loss="margin")
    return attacks, {**radii, "FlowSPSA": [setting.epsilon]}


def _strongest_attack(setting):
    attacks = {"FlowFrankWolfe": fr.attacks.FlowFrankWolfe(setting.epsilon)}
    return attacks, dict.fromkeys(attacks, setting.epsilons)


def _authors_attack(setting):
    return fr.attacks.FlowPGD.from_paper(32 if setting.dataset == "cifar10" else 28)


def _rotations():
    return fr.attacks.RotationTranslation(max_angle=15, max_shift=1, angles=7, shifts=3)


def _gradients(flow_weights, input_weights):
    """Plain training, and each penalty at its weights."""
    return [
        ("plain", {}),
        *(("flow_gradient", {"weight": weight}) for weight in flow_weights),
        *(("input_gradient", {"weight": weight}) for weight in input_weights),
    ]


def _methods(flow_weights, input_weights, beside_attack):
    """Every method; the combination with one weight."""
    return [
        *_gradients(flow_weights, input_weights),
        ("deformation_training", {}),
        ("flow_gradient+deformation_training", {"weight": beside_attack}),
        ("intensity_training", {}),
    ]


def _smooth(*flow_weights):
    """The flow gradient on a network with a smooth activation."""
    return [("flow_gradient", {"weight": weight, "activation": "swish"}) for weight in flow_weights]


def _consistent(*weights, **changes):
    """The penalty on predictions that change along the flow gradient."""
    return [("flow_consistency", {"weight": weight, **changes}) for weight in weights]


def _log_odds(*weights):
    """The penalty on the log-odds."""
    return [("flow_gradient", {"penalized_loss": "log_odds", "weight": weight}) for weight in weights]


# Penalties that cost less than the exact one in every step.
_CHEAPER = [
    ("flow_gradient", {"penalty_every": 2}),
    ("flow_gradient", {"penalty_every": 4}),
    ("flow_gradient", {"fraction": 0.25}),
    ("flow_gradient", {"penalty_method": "finite_difference"}),
]

# One step to the worst flow of the linearized model, for three gradient steps.
_ONE_STEP = {"deformation": "FlowFrankWolfe", "steps": 1}
_DEFORMATIONS = [
    ("deformation_training", {}),
    ("deformation_training", _ONE_STEP),
]


def _together_in_one_step(*flow_weights):
    """Training on deformations in one step, alone and with the flow gradient."""
    both = "flow_gradient+deformation_training"
    return [("deformation_training", _ONE_STEP), *((both, {"weight": weight, **_ONE_STEP}) for weight in flow_weights)]


# What else might hold the penalty back.
_CAUSES = [
    ("flow_gradient", {"label_smoothing": 0.1}),
    ("flow_gradient", {"warmup": 0.0}),
    ("flow_gradient", {"warmup": 1.0}),
]

_AUTHORS_ACTIVATION = (("activation", "relu"),)
_DIGITS = Setting(
    dataset="digits",
    architecture="small_cnn",
    width=0.5,
    train_size=None,
    batch_size=64,
    schedule=Schedule(epochs=16),
    epsilons=(0.2, 0.4, 0.6),
    epsilon=0.4,
    examples=500,
)
_SMOKE = dataclasses.replace(
    _DIGITS, width=0.1, train_size=320, schedule=Schedule(epochs=2), epsilons=(0.4,), examples=40
)
_MNIST = dataclasses.replace(_DIGITS, dataset="mnist", train_size=12_000, schedule=Schedule(epochs=8))
_FASHION = dataclasses.replace(
    _MNIST, dataset="fashion_mnist", epsilons=(0.1, 0.2, 0.4), epsilon=0.2, changes=_AUTHORS_ACTIVATION
)
_CIFAR = Setting(
    dataset="cifar10",
    architecture="vgg11",
    width=0.25,
    train_size=None,
    batch_size=128,
    schedule=Schedule(epochs=8, learning_rate=0.1, weight_decay=5e-4),
    epsilons=(0.08, 0.155, 0.3),
    epsilon=0.155,
    examples=500,
    changes=_AUTHORS_ACTIVATION,
)
# Few enough images to try many choices.
_CIFAR_FEW = dataclasses.replace(
    _CIFAR,
    train_size=12_000,
    schedule=dataclasses.replace(_CIFAR.schedule, epochs=12),
    changes=(*_CIFAR.changes, ("weight", 0.3)),
)
# The small network on colour images, and the deep one with BatchNormalization on grey ones.
_CIFAR_SMALL = dataclasses.replace(
    _FASHION,
    dataset="cifar10",
    schedule=Schedule(epochs=12),
    epsilons=_CIFAR.epsilons,
    epsilon=_CIFAR.epsilon,
    changes=_CIFAR.changes,
)
_FASHION_DEEP = dataclasses.replace(
    _CIFAR,
    dataset="fashion_mnist",
    train_size=12_000,
    schedule=dataclasses.replace(_CIFAR.schedule, epochs=12),
    epsilons=_FASHION.epsilons,
    epsilon=_FASHION.epsilon,
)
# Attention, which has no kinks with a smooth activation.
_DIGITS_VIT = dataclasses.replace(
    _DIGITS,
    architecture="small_vit",
    width=1.0,
    schedule=Schedule(epochs=16, optimizer="adam", learning_rate=2e-3),
    changes=(("activation", "gelu"),),
)
_PAPER = dataclasses.replace(
    _CIFAR,
    width=1.0,
    # Keras decays the weights apart from the momentum, which multiplies the authors' 5e-4 by ten.
    schedule=Schedule(
        epochs=80,
        learning_rate=0.01,
        milestones=(40, 60),
        momentum=0.9,
        weight_decay=5e-3,
        clip_norm=None,
        warmup=0.0,
    ),
    epsilons=(_PAPER_EPSILON,),
    epsilon=_PAPER_EPSILON,
    examples=1000,
)


def _authors_gradient(weight):
    """The authors' flow gradient, for their λ."""
    return (
        "flow_gradient",
        {
            "weight": fr.weight_from_paper(weight, batch_size=128, image_size=32),
            "random_start": _PAPER_EPSILON,
            "gradient_at": "identity",
            "lattice": "forward",
        },
    )


# A rate ten times as high, that falls along a cosine: half of the authors' epochs. The smooth activation with it.
_COSINE = {"activation": "swish", "epochs": 40, "learning_rate": 0.1, "milestones": (), "clip_norm": 1.0}


def _authors_schedule(width):
    """The authors' setting, with our methods beside theirs, attacked in every way."""
    methods = [
        ("plain", {}),
        *(_authors_gradient(weight) for weight in (100, 200, 300)),
        *_smooth(1.0, 3.0, 4.0, 6.0),
        *(("input_gradient", {"weight": weight}) for weight in (0.01, 0.03)),
        ("intensity_training", {}),
        *_DEFORMATIONS,
        ("deformation_training", {"activation": "swish", **_ONE_STEP}),
        *(
            ("flow_gradient+deformation_training", {"weight": weight, "activation": "swish", **_ONE_STEP})
            for weight in (0.3, 1.0, 3.0)
        ),
        ("plain", _COSINE),
        *(("flow_gradient", {"weight": weight, **_COSINE}) for weight in (2.0, 3.0, 4.0)),
        *(("input_gradient", {"weight": weight, **_COSINE}) for weight in (0.01, 0.03, 0.1, 0.3)),
        *_consistent(1.0, 3.0, **_COSINE),
        ("intensity_training", _COSINE),
        ("deformation_training", {**_COSINE, **_ONE_STEP}),
        *(
            ("flow_gradient+deformation_training", {"weight": weight, **_COSINE, **_ONE_STEP})
            for weight in (0.3, 1.0, 3.0)
        ),
    ]
    setting = dataclasses.replace(_PAPER, width=width)
    return Study(variants={setting: methods}, seeds=2, attacks=_every_kind_of_attack)


PRESETS = {
    # A minute or two: to see that everything runs.
    "smoke": Study(
        variants={_SMOKE: [("plain", {}), ("flow_gradient", {"weight": 5.0})]},
        seeds=1,
        attacks=_few_attacks,
    ),
    # Some ten minutes on 2 cores: one data set, and few attacks.
    "quick": Study(
        variants={_DIGITS: _methods(flow_weights=[20.0, 55.0], input_weights=[10.0], beside_attack=10.0)},
        seeds=1,
        attacks=_few_attacks,
    ),
    # What docs/reproduction.md shows.
    "cpu": Study(
        variants={
            _DIGITS: _methods(flow_weights=[20.0, 55.0, 150.0], input_weights=[3.0, 10.0], beside_attack=10.0)
            + _smooth(55.0)
            + _consistent(1.0, 3.0)
            + _together_in_one_step(2.0, 5.0, 10.0),
            _MNIST: _methods(flow_weights=[20.0, 55.0, 150.0], input_weights=[3.0, 10.0, 30.0], beside_attack=10.0)
            + _consistent(1.0, 3.0)
            + _together_in_one_step(2.0, 5.0, 10.0),
            _FASHION: _methods(flow_weights=[3.0, 10.0, 30.0], input_weights=[0.3, 1.0, 3.0], beside_attack=3.0)
            + _smooth(10.0)
            + _consistent(1.0, 3.0)
            + _consistent(3.0, activation="swish")
            + _together_in_one_step(0.3, 1.0, 3.0),
            _CIFAR: _methods(flow_weights=[0.3, 0.6, 1.0], input_weights=[0.003, 0.01, 0.03], beside_attack=0.3)
            + _smooth(1.0, 3.0, 10.0)
            + _consistent(1.0, 3.0)
            + _consistent(1.0, 3.0, activation="swish")
            + [
                ("deformation_training", {"activation": "swish"}),
                ("deformation_training", {"activation": "swish", **_ONE_STEP}),
            ],
            # Whether it is the images or the network that decides between the two gradients.
            _CIFAR_SMALL: _gradients(flow_weights=[0.3, 1.0, 3.0], input_weights=[0.01, 0.03, 0.1]),
            _FASHION_DEEP: _gradients(flow_weights=[1.0, 3.0, 10.0], input_weights=[0.1, 0.3, 1.0]),
            _DIGITS_VIT: _methods(flow_weights=[3.0, 10.0, 30.0], input_weights=[1.0, 3.0, 10.0], beside_attack=2.0)
            + _consistent(1.0, 3.0)
            + _together_in_one_step(2.0),
        },
        seeds=3,
        attacks=_all_attacks,
    ),
    # What the regularizer's defaults and the guide to cheaper penalties rest on: one choice changed at a time.
    "ablation": Study(
        variants={
            _DIGITS: [
                ("flow_gradient", {}),
                *(("flow_gradient", {"random_start": 0.0, "lattice": lattice}) for lattice in LATTICE_RULES),
                ("flow_gradient", {"gradient_at": "identity", "lattice": "two_sided"}),
                *(("flow_gradient", {"random_start": start}) for start in (0.1, 0.5)),
                *(("flow_gradient", {"gradient_norm": "l2", "weight": weight}) for weight in (15.0, 50.0, 150.0)),
                *(("flow_gradient", {"gradient_norm": "l1", "weight": weight}) for weight in (1.2, 4.0, 12.0)),
                *_log_odds(1.0),
                *_CAUSES,
                *_CHEAPER,
                *_DEFORMATIONS,
            ],
            _FASHION: [("flow_gradient", {}), *_CHEAPER, *_DEFORMATIONS],
            _CIFAR_FEW: [
                ("flow_gradient", {}),
                ("flow_gradient", {"activation": "swish"}),
                ("flow_gradient", {"model_mode": "inference"}),
                *_CAUSES,
                *_log_odds(0.1),
                *_DEFORMATIONS,
            ],
        },
        seeds=1,
        attacks=_strongest_attack,
    ),
    # The authors' own setting, for a GPU, and at a part of the width: a quarter of the cost, and a sixteenth.
    "paper": _authors_schedule(1.0),
    "half_width": _authors_schedule(0.5),
    "quarter_width": _authors_schedule(0.25),
}

"""Flags of what trains: which data set, network and recipe."""

import dataclasses
from typing import Any

from absl import flags

from keras_flowreg import regularizers
from keras_flowreg.commands import architectures, datasets, recipes
from keras_flowreg.commands.flags import define_dataset_flags, define_model_flags
from keras_flowreg.ops import losses, warp

flags.disclaim_key_flags()  # They are those of the command that calls.

_RECIPE_FLAGS = (
    "weight",
    "penalized_loss",
    "random_start",
    "lattice",
    "gradient_norm",
    "gradient_at",
    "penalty_method",
    "model_mode",
    "penalty_every",
    "fraction",
    "deformation",
    "epsilon",
    "attack_steps",
    "clean_fraction",
    "crown_ibp",
    "warmup_weight",
    "box_part",
    "label_smoothing",
    "activation",
)
# The parts of a method that a flag is for; others are for every method.
_PARTS = {
    **dict.fromkeys(("weight", "penalty_every"), (*recipes.REGULARIZERS, recipes.CONSISTENCY, recipes.CERTIFIED)),
    **dict.fromkeys(("penalized_loss", "random_start", "gradient_norm", "gradient_at"), recipes.REGULARIZERS),
    **dict.fromkeys(("penalty_method", "model_mode", "fraction"), recipes.REGULARIZERS),
    "lattice": ("flow_gradient",),
    "epsilon": (*recipes.ATTACKS, recipes.CONSISTENCY, recipes.CERTIFIED),
    **dict.fromkeys(("attack_steps", "clean_fraction"), recipes.ATTACKS),
    "deformation": ("deformation_training",),
    **dict.fromkeys(("crown_ibp", "warmup_weight", "box_part"), (recipes.CERTIFIED,)),
}
_SCHEDULE_FLAGS = ("epochs", "learning_rate", "weight_decay", "warmup")
_FIELDS = {"attack_steps": "steps"}  # of a recipe, where the flag has another name


def define_training_flags() -> None:
    """Those of data sets and models, --method, what changes its recipe, --validation_size, --train_size, --output."""
    define_dataset_flags()
    define_model_flags()
    flags.DEFINE_enum("method", "flow_gradient", recipes.METHODS, "how to train against deformations")
    flags.DEFINE_float("weight", None, "weight of the penalty", lower_bound=0)
    flags.DEFINE_enum(
        "penalized_loss", None, losses.NAMED_LOSSES, "the loss whose gradient is penalized; the trained one by default"
    )
    flags.DEFINE_float(
        "random_start", None, "standard deviation of the penalty's start, in pixels or values", lower_bound=0
    )
    flags.DEFINE_enum("lattice", None, warp.LATTICE_RULES, "the warp's derivative at a pixel")
    flags.DEFINE_enum("gradient_norm", None, regularizers.GRADIENT_NORMS, "what is penalized of the gradient")
    flags.DEFINE_enum("gradient_at", None, regularizers.GRADIENT_PLACES, "where the penalized gradient is taken")
    flags.DEFINE_enum("penalty_method", None, regularizers.METHODS, "how the penalty is differentiated")
    flags.DEFINE_enum(
        "model_mode", None, regularizers.MODEL_MODES, "the network's mode in which the penalized gradient is taken"
    )
    flags.DEFINE_integer("penalty_every", None, "take the penalty in each so many-th step", lower_bound=1)
    flags.DEFINE_float("fraction", None, "the part of a batch whose penalty is taken", lower_bound=0, upper_bound=1)
    flags.DEFINE_enum("deformation", None, list(recipes.DEFORMATIONS), "the attack of deformation_training")
    flags.DEFINE_float(
        "epsilon",
        None,
        "radius of the training attack, of flow_consistency or of certified_training's bound, in pixels or values",
        lower_bound=0,
    )
    flags.DEFINE_integer("attack_steps", None, "steps of the training attack", lower_bound=1)
    flags.DEFINE_float("clean_fraction", None, "the part of a batch that is not attacked", lower_bound=0)
    flags.DEFINE_float("crown_ibp", None, "the part of CROWN-IBP in certified_training's bound at radius zero", 0, 1)
    flags.DEFINE_float("warmup_weight", None, "weight of the penalties on that bound at radius zero", lower_bound=0)
    flags.DEFINE_float(
        "box_part", None, "the part of each pixel's interval that it bounds, around an attack's image", 0, 1
    )
    flags.DEFINE_float("label_smoothing", None, "the part of a label that all classes share", 0, 1)
    flags.DEFINE_enum("activation", None, architectures.ACTIVATIONS, "activation of the network's hidden layers")
    flags.DEFINE_integer("epochs", None, "passes over the training examples", lower_bound=1)
    flags.DEFINE_float("learning_rate", None, "learning rate at the start", lower_bound=0)
    flags.DEFINE_float("weight_decay", None, "weight decay of the gradient descent", lower_bound=0)
    flags.DEFINE_float("warmup", None, "fraction of the epochs over which penalty and attack rise", 0, 1)
    flags.DEFINE_integer("validation_size", 1000, "training images held out", lower_bound=0)
    flags.DEFINE_integer("train_size", None, "training images to use; all by default", lower_bound=1)
    flags.DEFINE_string("output", None, "where to save the model, ending in .keras", required=True)
    flags.register_validator("output", lambda path: path.endswith(".keras"), "Expected a path that ends in .keras")


def load_dataset() -> datasets.Dataset:
    """The data set of the flags."""
    args = flags.FLAGS
    return datasets.load(
        args.dataset,
        batch_size=args.batch_size,
        data_dir=args.data_dir,
        validation_size=args.validation_size,
        train_size=args.train_size,
        seed=args.seed,
    )


def recipe() -> recipes.Recipe:
    """The recipe of --method, with what the flags change."""
    chosen = recipes.get(flags.FLAGS.method, flags.FLAGS.dataset)
    _expect_used(chosen)
    schedule = dataclasses.replace(chosen.schedule, **_given(_SCHEDULE_FLAGS))
    return dataclasses.replace(chosen, schedule=schedule, **_given(_RECIPE_FLAGS))


def _expect_used(chosen):
    """Checks that the method has what the flags change."""
    parts = {chosen.regularizer_name, chosen.attack_name}
    for name, users in _PARTS.items():
        if flags.FLAGS[name].value is not None and not parts & set(users):
            raise ValueError(f"Expected flags of --method={chosen.method}. Received --{name}, which it does not use.")


def settings() -> dict[str, Any]:
    """All that decides the training, as plain values."""
    args, names = (
        flags.FLAGS,
        ("dataset", "architecture", "width", "batch_size", "seed", "validation_size", "train_size"),
    )
    return {**{name: args[name].value for name in names}, "recipe": dataclasses.asdict(recipe())}


def _given(names):
    """`{field: value}` of the flags that were given."""
    return {_FIELDS.get(name, name): flags.FLAGS[name].value for name in names if flags.FLAGS[name].value is not None}

"""Flags that several commands share."""

import inspect
from collections.abc import Sequence
from typing import Any

from absl import flags

import keras_flowreg as fr
from keras_flowreg.commands import architectures, datasets
from keras_flowreg.types import ValueRange

flags.disclaim_key_flags()  # They are those of the command that calls.


def define_dataset_flags() -> None:
    """--dataset, --data_dir, --batch_size, --seed."""
    names = "|".join(datasets.NAMES)
    flags.DEFINE_string(
        "dataset",
        "digits",
        f"<{names}|FOLDER>: the data set; digits needs no download; FOLDER/train/CLASS/ and "
        "FOLDER/test/CLASS/ hold pictures of one size",
    )
    flags.register_validator("dataset", datasets.is_known, f"Expected a folder of pictures, or one of {names}.")
    flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets keeps its data sets")
    flags.DEFINE_integer("batch_size", 64, "examples in a batch", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the weights, the order, the augmentation and the random starts")


def define_model_flags() -> None:
    """--architecture, --width."""
    flags.DEFINE_enum("architecture", "small_cnn", architectures.NAMES, "the network")
    flags.DEFINE_float("width", 0.5, "multiplies the network's channels", lower_bound=0.01)


def model_options() -> dict[str, Any]:
    """What `training.build_model` takes of the flags of models and data sets."""
    return {name: flags.FLAGS[name].value for name in ("architecture", "width", "batch_size", "seed")}


def define_attack_flags(attacks: Sequence[str]) -> None:
    """--attacks, with that default, --epsilons, --examples, --steps, --restarts, --norm."""
    flags.DEFINE_multi_enum("attacks", attacks, attack_names(), "which attacks; may be given several times")
    define_radius_flags("images to attack")
    define_search_flags()


def define_radius_flags(what: str) -> None:
    """--epsilons, --examples."""
    flags.DEFINE_list("epsilons", ["0.1", "0.2", "0.4", "0.6"], "radii of the flows, in pixels")
    flags.DEFINE_integer("examples", None, f"{what}, from the first; all by default", lower_bound=1)
    flags.register_validator("epsilons", _are_radii, "Expected numbers of pixels, not negative: 0.1,0.2")


def define_search_flags() -> None:
    """--steps, --restarts, --norm."""
    flags.DEFINE_integer("steps", None, "steps of the attacks that have them, if not their own number", lower_bound=1)
    flags.DEFINE_integer("restarts", 1, "random starts of the attacks that have them", lower_bound=1)
    flags.DEFINE_enum("norm", "linf", fr.balls.PER_PIXEL_NORMS, "the norm of a flow")


def define_shard_flag(of: str) -> None:
    """--shard."""
    flags.DEFINE_string("shard", "1/1", f"which part of the {of}: 2/4 is the second quarter")
    flags.register_validator("shard", _is_shard, "Expected a part such as 2/4.")


def shard() -> tuple[int, int]:
    """The part and the number of parts of --shard."""
    part, parts = flags.FLAGS.shard.split("/")
    return int(part), int(parts)


def attack_names() -> list[str]:
    """The attacks of the library that need no perturbation of the user's, by class name."""
    return [name for name in fr.attacks.__all__ if _is_attack(name) and "perturbation" not in _options(name)]


def epsilons() -> list[float]:
    """The values of --epsilons."""
    return [float(epsilon) for epsilon in flags.FLAGS.epsilons]


def build_attack(name: str, epsilon: float, value_range: ValueRange = (0.0, 1.0)) -> fr.attacks.Attack:
    """The attack of that name, on images of such values, with those of the flags that it takes."""
    args = flags.FLAGS
    options = {
        "epsilon": epsilon,
        "norm": args.norm,
        "seed": args.seed,
        "value_range": value_range,
    }
    if args.steps:
        options["steps"] = args.steps
    if args.restarts > 1:
        options.update(restarts=args.restarts, start="random")
    accepted = {key: value for key, value in options.items() if key in _options(name)}
    try:
        return getattr(fr.attacks, name)(**accepted)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def build_attacks(value_range: ValueRange = (0.0, 1.0)) -> list[fr.attacks.Attack]:
    """The attacks of --attacks, on images of such values."""
    return [build_attack(name, max(epsilons()), value_range) for name in flags.FLAGS.attacks]


def _is_attack(name):
    return name != "Attack" and issubclass(getattr(fr.attacks, name), fr.attacks.Attack)


def _options(name):
    return inspect.signature(getattr(fr.attacks, name).__init__).parameters


def _are_radii(values):
    try:
        return bool(values) and all(0 <= float(value) < float("inf") for value in values)
    except ValueError:
        return False


def _is_shard(text):
    number, slash, count = text.partition("/")
    return bool(slash) and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)

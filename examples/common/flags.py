"""Flags that several example scripts share."""

from absl import flags

from common import architectures, datasets


def define_dataset_flags():
    """--dataset, --data_dir, --batch_size, --seed."""
    flags.DEFINE_enum("dataset", "digits", datasets.NAMES, "the data set; digits needs no download")
    flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets keeps its data sets")
    flags.DEFINE_integer("batch_size", 64, "examples in a batch", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the weights, the order, the augmentation and the random starts")


def define_model_flags():
    """--architecture, --width."""
    flags.DEFINE_enum("architecture", "small_cnn", architectures.NAMES, "the network")
    flags.DEFINE_float("width", 0.5, "multiplies the network's channels", lower_bound=0.01)


def define_attack_flags():
    """--epsilons, --steps, --restarts, --norm, --examples."""
    flags.DEFINE_list("epsilons", ["0.1", "0.2", "0.4", "0.6"], "radii of the flows, in pixels")
    flags.DEFINE_integer("steps", 20, "gradient steps of FlowPGD", lower_bound=1)
    flags.DEFINE_integer("restarts", 1, "random starts of FlowPGD", lower_bound=1)
    flags.DEFINE_enum("norm", "linf", ["linf", "pixel_l2", "l2"], "the norm of a flow")
    flags.DEFINE_integer("examples", None, "images to attack, from the first; all by default", lower_bound=1)
    flags.register_validator("epsilons", _are_radii, "Expected numbers of pixels, not negative: 0.1,0.2")


def epsilons():
    """The values of --epsilons."""
    return [float(epsilon) for epsilon in flags.FLAGS.epsilons]


def attack_options():
    """FlowPGD's arguments, but for its radius, from the flags."""
    args = flags.FLAGS
    return {"steps": args.steps, "restarts": args.restarts, "norm": args.norm, "seed": args.seed}


def _are_radii(values):
    try:
        return all(0 <= float(value) < float("inf") for value in values)
    except ValueError:
        return False

r"""Reports how far deformations fool a saved classifier: as a table, as JSON and as a figure.

    keras-flowreg evaluate --model=digits.keras --dataset=digits --epsilons=0.1,0.2,0.4 --output=report
    keras-flowreg evaluate --model=digits.keras --attacks=FlowPGD --attacks=RotationTranslation

--model is a .keras, .h5 or .hdf5 file, a SavedModel or a TF-Hub handle, with logits. --output=report writes report.json, report.md
and report.png, and keeps partial results in report.jsonl: start a killed evaluation again, and it goes on.
--shard=2/8 attacks one part of the images, on each of eight machines, each with an --output of its own. One report of all
comes from the same command without it, and --merge=part1.jsonl --merge=part2.jsonl ...
--certify adds what is proven: the true accuracy lies between it and the worst case. Attacks leave out most of it.
--split=validation takes the training images that the command train held out: choose weights by those, not by the test
images.
"""

from typing import Any, Optional

import tensorflow as tf
from absl import flags

import keras_flowreg as fr
from keras_flowreg.commands import datasets, models, outputs
from keras_flowreg.commands.command_line import Result
from keras_flowreg.commands.flags import (
    build_attacks,
    define_attack_flags,
    define_dataset_flags,
    define_shard_flag,
    epsilons,
    shard,
)
from keras_flowreg.types import ValueRange


def define_flags() -> None:
    """Those of a model, a data set and attacks; which images, and where the report goes."""
    define_dataset_flags()
    define_attack_flags(["AutoDeform"])
    models.define_flags("a saved classifier")
    flags.DEFINE_enum("split", "test", ["test", "validation"], "which images")
    flags.DEFINE_integer("validation_size", 1000, "as the command train was told", lower_bound=1)
    flags.DEFINE_bool("check", True, "whether to check if the report can be trusted")
    flags.DEFINE_bool("certify", False, "whether to prove, too, which images no flow of each radius can fool")
    flags.DEFINE_string("output", None, "where to write the report, without an ending")
    define_shard_flag("batches")
    flags.DEFINE_multi_string("merge", [], "partial results of a shard; may be given several times; needs --output")


def report_options() -> dict[str, Any]:
    """Those arguments of `evaluate_robustness` that decide the numbers, by the flags."""
    args = flags.FLAGS
    return {
        "attacks": build_attacks(models.value_range()),
        "value_range": models.value_range(),
        "epsilons": epsilons(),
        "examples": args.examples,
        "seed": args.seed,
        "certify": args.certify,
    }


def data_options() -> dict[str, Any]:
    """The arguments of `load_images`, by the flags."""
    args = flags.FLAGS
    names = ("dataset", "split", "batch_size", "data_dir", "validation_size")
    return {**{name: args[name].value for name in names}, "value_range": models.value_range()}


def load_images(
    dataset: str,
    split: str,
    batch_size: int,
    data_dir: Optional[str],
    validation_size: int,
    value_range: ValueRange = (0.0, 1.0),
) -> tf.data.Dataset:
    """The batches of images, of such values, and labels to attack."""
    held_out = validation_size if split == "validation" else 0
    loaded = datasets.load(dataset, batch_size=batch_size, data_dir=data_dir, validation_size=held_out)
    return getattr(loaded, split).map(lambda images, labels: (models.scaled(images, value_range), labels))


def main() -> Result:
    """Evaluates the model of the flags."""
    args = flags.FLAGS
    if args.output:
        outputs.expect_report_path(args.output, "output")
    if args.merge:
        if not args.output:
            raise ValueError("Expected --output, for what is merged. Received none.")
        fr.evaluation.merge_partial_results(args.merge, f"{args.output}.jsonl")
    report = fr.evaluate_robustness(
        models.load(),
        load_images(**data_options()),
        **report_options(),
        check=args.check,
        resume_from=f"{args.output}.jsonl" if args.output else None,
        shard=shard(),
    )
    if args.output:
        outputs.write_report(report, args.output)
    heading = f"{args.model} on {args.dataset}, {args.split} split, seed {args.seed}"
    return Result(f"\n{heading}\n\n{report.to_markdown()}", report.to_dict())

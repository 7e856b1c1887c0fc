r"""Reports how far deformations fool a saved classifier: as a table, as JSON and as a figure.

    python examples/evaluate.py --model=digits.keras --dataset=digits --epsilons=0.1,0.2,0.4 --output=report
    python examples/evaluate.py --model=digits.keras --attacks=FlowPGD --attacks=RotationTranslation

--model is a .keras, .h5 or .hdf5 file, a SavedModel or a TF-Hub handle, with logits. --output=report writes report.json, report.md
and report.png, and keeps partial results in report.jsonl: start a killed evaluation again, and it goes on.
--certify adds what is proven: the true accuracy lies between it and the worst case.
--split=validation takes the training images that train.py held out: choose weights by those, not by the test images.
"""

from absl import flags

import keras_flowreg as fr
from flowreg_examples import command_line, datasets, models, outputs
from flowreg_examples.flags import build_attacks, define_attack_flags, define_dataset_flags, epsilons

define_dataset_flags()
define_attack_flags(["AutoDeform"])
models.define_flags("a saved classifier with logits")
_SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "which images")
_VALIDATION_SIZE = flags.DEFINE_integer("validation_size", 1000, "as train.py was told", lower_bound=1)
_CHECK = flags.DEFINE_bool("check", True, "whether to check if the report can be trusted")
_CERTIFY = flags.DEFINE_bool("certify", False, "whether to prove, too, which images no flow of each radius can fool")
_OUTPUT = flags.DEFINE_string("output", None, "where to write the report, without an ending")


def main(_):
    args = flags.FLAGS
    if _OUTPUT.value:
        outputs.expect_report_path(_OUTPUT.value, "output")
    model = models.load()
    validation_size = _VALIDATION_SIZE.value if _SPLIT.value == "validation" else 0
    dataset = datasets.load(
        args.dataset, batch_size=args.batch_size, data_dir=args.data_dir, validation_size=validation_size
    )
    report = fr.evaluate_robustness(
        model,
        getattr(dataset, _SPLIT.value),
        build_attacks(),
        epsilons(),
        examples=args.examples,
        seed=args.seed,
        check=_CHECK.value,
        certify=_CERTIFY.value,
        resume_from=f"{_OUTPUT.value}.jsonl" if _OUTPUT.value else None,
    )
    print(f"\n{args.model} on {args.dataset}, {_SPLIT.value} split, seed {args.seed}\n\n{report.to_markdown()}")
    if _OUTPUT.value:
        outputs.write_report(report, _OUTPUT.value)


if __name__ == "__main__":
    command_line.run(main)

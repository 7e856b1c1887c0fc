r"""Reports how far deformations fool a saved classifier: as a table, as JSON and as a figure.

    python examples/evaluate.py --model=digits.keras --dataset=digits --epsilons=0.1,0.2,0.4 --output=report
    python examples/evaluate.py --model=digits.keras --attacks=FlowPGD --attacks=RotationTranslation

--model is a .keras file, a SavedModel or a TF-Hub handle, with logits. --output=report writes report.json, report.md
and report.png, and keeps partial results in report.jsonl: start a killed evaluation again, and it goes on.
--split=validation takes the training images that train.py held out: choose weights by those, not by the test images.
"""

import os

from absl import app, flags

import keras_flowreg as fr
from flowreg_examples import datasets, models
from flowreg_examples.flags import build_attacks, define_attack_flags, define_dataset_flags, epsilons

define_dataset_flags()
define_attack_flags(["AutoDeform"])
_MODEL = flags.DEFINE_string("model", None, "a saved classifier with logits", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "which images")
_VALIDATION_SIZE = flags.DEFINE_integer("validation_size", 1000, "as train.py was told", lower_bound=1)
_CHECK = flags.DEFINE_bool("check", True, "whether to check if the report can be trusted")
_OUTPUT = flags.DEFINE_string("output", None, "where to write the report, without an ending")


def write(report):
    """Writes the report in three forms."""
    for ending, text in (("json", report.to_json()), ("md", report.to_markdown())):
        with open(f"{_OUTPUT.value}.{ending}", "w", encoding="utf-8") as file:
            file.write(text)
    report.plot().figure.savefig(f"{_OUTPUT.value}.png", dpi=120)


def main(_):
    args = flags.FLAGS
    model = models.load(_MODEL.value)
    validation_size = _VALIDATION_SIZE.value if _SPLIT.value == "validation" else 0
    dataset = datasets.load(
        args.dataset, batch_size=args.batch_size, data_dir=args.data_dir, validation_size=validation_size
    )
    if _OUTPUT.value:
        os.makedirs(os.path.dirname(os.path.abspath(_OUTPUT.value)), exist_ok=True)
    report = fr.evaluate_robustness(
        model,
        getattr(dataset, _SPLIT.value),
        build_attacks(),
        epsilons(),
        examples=args.examples,
        seed=args.seed,
        check=_CHECK.value,
        resume_from=f"{_OUTPUT.value}.jsonl" if _OUTPUT.value else None,
    )
    print(f"\n{_MODEL.value} on {args.dataset}, {_SPLIT.value} split, seed {args.seed}\n\n{report.to_markdown()}")
    if _OUTPUT.value:
        write(report)


if __name__ == "__main__":
    app.run(main)

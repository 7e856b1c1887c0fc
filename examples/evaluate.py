r"""Measures a saved classifier's accuracy: clean, and under FlowPGD at each radius.

    python examples/evaluate.py --model=/tmp/digits.keras --dataset=digits --epsilons=0.1,0.2,0.4

--split=validation takes the training images that train.py held out: choose weights by those, not by the test images.
"""

import json
import os
import sys

import keras
from absl import app, flags
from common import datasets, robustness
from common.flags import attack_options, define_attack_flags, define_dataset_flags, epsilons

import keras_flowreg  # noqa: F401 (a FlowRegularizedModel can only be loaded where it is known)

define_dataset_flags()
define_attack_flags()
_MODEL = flags.DEFINE_string("model", None, "a saved Keras model with logits", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "which images")
_VALIDATION_SIZE = flags.DEFINE_integer("validation_size", 1000, "as train.py was told", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "where to write the numbers and their settings, as JSON")


def load_model(path):
    """Loads a Keras model, and compiles it if it was saved without a loss."""
    if not os.path.exists(path):
        raise app.UsageError(f"Expected `--model` to be a saved Keras model. Received {path}, which does not exist.")
    model = keras.models.load_model(path)
    if not getattr(model, "loss", None):
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def main(_):
    args = flags.FLAGS
    model = load_model(_MODEL.value)
    validation_size = _VALIDATION_SIZE.value if _SPLIT.value == "validation" else 0
    dataset = datasets.load(
        args.dataset, batch_size=args.batch_size, data_dir=args.data_dir, validation_size=validation_size
    )
    attack = attack_options()
    accuracies, examples = robustness.robust_accuracies(
        model,
        getattr(dataset, _SPLIT.value),
        epsilons(),
        examples=args.examples,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
        **attack,
    )
    print(f"FlowPGD on {examples} {_SPLIT.value} images of {args.dataset}: {attack}")
    print("| ε (pixels) | accuracy |\n| ---: | ---: |")
    for epsilon, accuracy in accuracies.items():
        print(f"| {epsilon:g} | {accuracy:.3f} |")
    if _OUTPUT.value:
        report = {
            "model": _MODEL.value,
            "dataset": args.dataset,
            "split": _SPLIT.value,
            "examples": examples,
            "attack": attack,
        }
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump({**report, "accuracy": accuracies}, file, indent=2)


if __name__ == "__main__":
    app.run(main)

"""The leaderboard: robust classifiers to take away, all measured under one protocol.

Of an entry, leaderboard/DATASET/NAME is what `fr.export` writes, NAME.json is what was measured, and NAME.h5, where there are
certificates, is the network: a SavedModel does not tell its layers, and without them nothing is proven. A classifier that is
elsewhere, such as one on a hub, has the JSON file alone.
"""

import dataclasses
import json
import math
import os
import pathlib
from typing import Optional

import numpy as np

import keras_flowreg as fr
from keras_flowreg import files, model_card
from keras_flowreg.commands import datasets
from keras_flowreg.evaluation import accuracy
from keras_flowreg.wrapped import classifier_of

# The radii, in pixels, of each data set; entries are ranked at the second.
RADII = {
    "digits": (0.2, 0.4, 0.6),
    "mnist": (0.2, 0.4, 0.6),
    "fashion_mnist": (0.1, 0.2, 0.4),
    "cifar10": (0.08, 0.155, 0.3),
}
EXAMPLES = 1000  # the first ones of the test split
_BATCH_SIZE = 100
_DIFFERENT = 0.01  # the part of the examples that another processor's rounding may decide
PAGE_HEAD = f"""# Leaderboard

Classifiers to take away, and how robust they are. The protocol: the first {EXAMPLES:,} test images, `AutoDeform`
in the \u2113\u221e ball, seed 0. From left to right in a cell: certified \u2264 true \u2264 attacked accuracy; without a certificate
only the last. Entries are ranked by the accuracy under attack at the middle radius.

```python
import tensorflow_hub as hub

classifier = hub.load("leaderboard/digits/flow_gradient")  # images from 0 to 1, to logits
```

`fr.load_classifier` makes a Keras model of it, to attack or to evaluate. Each folder has its model card. Enter your own
classifier, a Keras file, a SavedModel or a TF-Hub handle:

```
python examples/leaderboard.py --dataset=digits --name=mine --model=mine.keras --training="how it was trained"
```

With `--certify` a Keras file is proven, too. And check an entry: this evaluates it anew, and compares. With `--again` it is
written as it comes out, when attacks or proofs have got stronger.

```
python examples/leaderboard.py --check=digits/flow_gradient
python examples/leaderboard.py --again=digits/flow_gradient
```
"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A classifier, and what was measured of it.

    Attributes:
      dataset: one of `RADII`.
      name: what it is called, without a slash.
      model: where it is: a path within the leaderboard's folder, or the address of a hub.
      training: how it was trained, in words or as a command.
      parameters: how many of its weights are trained; `None` where that is not known.
      report: a `fr.RobustnessReport` under the protocol.
    """

    dataset: str
    name: str
    model: str
    training: str
    parameters: Optional[int]
    report: fr.RobustnessReport

    def to_json(self):
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps({**values, "report": self.report.to_dict()}, indent=2, allow_nan=False)

    @classmethod
    def read(cls, path):
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
        return cls(**{**values, "report": fr.RobustnessReport.from_dict(values["report"])})

    @property
    def is_elsewhere(self):
        """Whether the classifier is not in the leaderboard's folder."""
        return self.model != f"{self.dataset}/{self.name}"

    def bounds(self, epsilon):
        """The certified accuracy, or `None`, and that under attack."""
        certified = self.report.certified.get(epsilon)
        lower = None if certified is None else accuracy(certified).value
        return lower, accuracy(self.report.worst_case()[epsilon]).value


def json_path(folder, dataset, name):
    return os.path.join(folder, dataset, f"{name}.json")


def expect_free(path, handle):
    """Checks that no file that an entry replaces is another's, or the classifier that is entered.

    Args:
      path: of the entry's JSON file.
      handle: where the classifier is.
    """
    network = f"{path.removesuffix('.json')}.h5"
    if os.path.exists(handle) and os.path.exists(network) and os.path.samefile(handle, network):
        raise ValueError(
            f"Expected `--model` to be no file of an entry. Received {handle}, which this one would replace."
        )
    if os.path.exists(path):
        try:
            Entry.read(path)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected `--name` to be new, or an entry. Received {path}, which is another file."
            ) from error
    elif os.path.exists(network):
        raise ValueError(f"Expected `--name` to be new, or an entry. Received {network}, which is another file.")


def evaluate(model, dataset, certify, *, data_dir=None, examples=EXAMPLES, resume_from=None):
    """A report under the protocol.

    Args:
      model: a Keras classifier.
      dataset: one of `RADII`.
      certify: whether to prove, too, what is robust.
      data_dir: where TensorFlow Datasets keeps its data sets.
      examples: how many test images, from the first.
      resume_from: a file for partial results, or `None`.
    """
    test = datasets.load(dataset, batch_size=_BATCH_SIZE, data_dir=data_dir).test
    options = {"examples": examples, "certify": certify, "resume_from": resume_from}
    return fr.evaluate_robustness(model, test, epsilons=RADII[dataset], **options)


def enter(folder, dataset, name, handle, model, training, report):
    """Writes an entry; of a Keras file, the export too. What is exported is what was measured.

    Args:
      folder: the leaderboard's.
      dataset, name, training: see `Entry`.
      handle: where the model was loaded from.
      model: the Keras model of it.
      report: its report.
    """
    path = os.path.join(folder, dataset, name)
    is_network = os.path.isfile(handle)
    if is_network:
        fr.export(model, path, report=report, recipe={"training": training}, overwrite=True)
        pathlib.Path(f"{path}.h5").unlink(missing_ok=True)  # of an entry that this one replaces
        if report.certified:
            with files.replacing(f"{path}.h5") as new:
                classifier_of(model).save(new, include_optimizer=False)
    parameters = sum(math.prod(weights.shape) for weights in model.trainable_variables) or None
    where = f"{dataset}/{name}" if is_network else handle
    files.write_text(f"{path}.json", Entry(dataset, name, where, training, parameters, report).to_json())


def renew(folder, entry, report):
    """Writes an entry again, with another report of the same classifier, and the card of its export."""
    files.write_text(json_path(folder, entry.dataset, entry.name), dataclasses.replace(entry, report=report).to_json())
    if not entry.is_elsewhere:
        exported = os.path.join(folder, entry.model)
        model_card.write(model_card.with_report(model_card.read(exported), report), exported)


def handle_of(folder, entry):
    """What `fr.load_classifier` takes: the network where it is kept, which can be certified, or else the export."""
    if entry.is_elsewhere:
        return entry.model
    path = os.path.join(folder, entry.model)
    return f"{path}.h5" if os.path.exists(f"{path}.h5") else path


def differences(entry, anew):
    """How many examples came out otherwise in a new report of the first examples: `{(bound, ε): number}`."""
    pairs = {
        ("attacked", epsilon): (entry.report.worst_case()[epsilon], robust)
        for epsilon, robust in anew.worst_case().items()
    }
    pairs |= {
        ("certified", epsilon): (entry.report.certified[epsilon], proven) for epsilon, proven in anew.certified.items()
    }
    return {key: int(np.sum(before[: len(after)] != after[: len(before)])) for key, (before, after) in pairs.items()}


def expect_same(entry, anew):
    """Checks that a new report agrees.

    Raises:
      ValueError: if more examples came out otherwise than rounding can decide.
    """
    allowed = max(1, round(_DIFFERENT * anew.examples))
    different = {key: number for key, number in differences(entry, anew).items() if number > allowed}
    if different:
        raise ValueError(
            f"Expected {entry.dataset}/{entry.name} to be as robust as it was. Received another result for more than {allowed} "
            f"of {anew.examples} examples: {different}."
        )


def read_all(folder):
    """All entries, those of a data set by rank."""
    entries = [Entry.read(path) for path in sorted(pathlib.Path(folder).glob("*/*.json"))]
    return sorted(entries, key=lambda entry: (list(RADII).index(entry.dataset), *_rank(entry)))


def _rank(entry):
    _, attacked = entry.bounds(RADII[entry.dataset][1])
    return -attacked, -entry.report.clean_accuracy.value, entry.name


def expect_page(path):
    """Checks that there is nothing at a path, or a leaderboard's page, which is replaced."""
    path = pathlib.Path(path)
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(PAGE_HEAD.splitlines()[0]):
        raise ValueError(f"Expected `--page` to be new, or a leaderboard's. Received {path}, which is another file.")


def page(entries):
    """The leaderboard as a page: a table for each data set."""
    present = dict.fromkeys(entry.dataset for entry in entries)
    tables = (_table(dataset, [entry for entry in entries if entry.dataset == dataset]) for dataset in present)
    return "\n".join([PAGE_HEAD, *tables])


def _table(dataset, entries):
    headers = [
        "rank",
        "classifier",
        "clean",
        *(f"{epsilon:g} px" for epsilon in RADII[dataset]),
        "parameters",
        "training",
    ]
    lines = [
        f"## {dataset}\n",
        "| " + " | ".join(headers) + " |",
        "| ---: | --- | " + "---: | " * (len(headers) - 3) + "--- |",
    ]
    for rank, entry in enumerate(entries, start=1):
        cells = [_cell(*entry.bounds(epsilon)) for epsilon in RADII[dataset]]
        parameters = "" if entry.parameters is None else f"{entry.parameters:,}"
        clean = f"{entry.report.clean_accuracy.value:.3f}"
        lines.append("| " + " | ".join([str(rank), _name(entry), clean, *cells, parameters, entry.training]) + " |")
    findings = [f"- `{entry.name}`: {finding.message}" for entry in entries for finding in entry.report.findings]
    if findings:
        lines += ["\nWhat speaks against a report:\n", *findings]
    older = [f"`{entry.name}`" for entry in entries if _is_older(entry)]
    if older:
        lines.append(f"\nMeasured by an older `AutoDeform`, which may find more today: {', '.join(older)}.")
    return "\n".join(lines) + "\n"


def _name(entry):
    """What an entry is called, and how many images it was measured on, if not as many as the protocol says."""
    count = entry.report.examples
    return f"`{entry.name}`" if count == EXAMPLES else f"`{entry.name}`, {count:,} images"


def _is_older(entry):
    """Whether `AutoDeform` had other members when the entry was measured."""
    members = fr.attacks.AutoDeform(RADII[entry.dataset][1]).settings()["members"]
    attacks = entry.report.settings.get("attacks", [])
    return any(attack.get("members") != members for attack in attacks if attack["class"] == "AutoDeform")


def _cell(certified, attacked):
    return f"{attacked:.3f}" if certified is None else f"{certified:.3f}\u2013{attacked:.3f}"

"""What a classifier's users must know of it: its inputs, its training, and how robust it was measured to be."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any, Optional

from keras_flowreg import compat, files
from keras_flowreg.evaluation import RobustnessReport
from keras_flowreg.evaluation.plain import plain
from keras_flowreg.evaluation.results import title
from keras_flowreg.models import FlowRegularizedModel
from keras_flowreg.types import KerasModel
from keras_flowreg.wrapped import classifier_of

SCHEMA_VERSION = 1
NAMES = ("model_card.json", "model_card.md")


def describe(
    model: KerasModel,
    *,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    report: Optional[RobustnessReport] = None,
    recipe: Optional[Mapping[str, Any]] = None,
) -> dict[str, Any]:
    """Collects a model card.

    Args:
      model: the Keras model. A `FlowRegularizedModel` also tells how it was trained.
      inputs: shape, dtype and values of the images that the export takes.
      outputs: whether the export gives `"logits"` or `"probabilities"`, and for how many classes.
      report: a report of the model, if there is one.
      recipe: how it was trained otherwise, as plain values.

    Returns:
      A dictionary of plain values.

    Raises:
      TypeError: if `recipe` is not made of plain values.

    ```python
    from keras_flowreg import model_card

    inputs = {"shape": [None, 8, 10, 2], "dtype": "float32", "values": [0.0, 1.0]}
    card = model_card.describe(model, inputs=inputs, outputs={"kind": "logits", "classes": 4})
    print(model_card.to_markdown(card))
    ```
    """
    card = {
        "schema_version": SCHEMA_VERSION,
        "name": classifier_of(model).name,
        "parameters": sum(math.prod(weight.shape) for weight in classifier_of(model).trainable_variables),
        "inputs": inputs,
        "outputs": outputs,
        "training": {**_training(model), **plain(recipe or {}, "recipe")},
        "robustness": None if report is None else _robustness(report),
        "versions": compat.versions(),
    }
    return plain(card)


def write(card: Mapping[str, Any], folder: str) -> None:
    """Writes a card into a folder, for programs and as text."""
    for name, text in zip(NAMES, (json.dumps(card, indent=2, allow_nan=False), to_markdown(card))):
        files.write_text(os.path.join(folder, name), text)


def read(folder: str) -> dict[str, Any]:
    """The card that is in a folder."""
    with open(os.path.join(folder, NAMES[0]), encoding="utf-8") as file:
        return json.load(file)


def with_report(card: Mapping[str, Any], report: RobustnessReport) -> dict[str, Any]:
    """A card with another report of the same model."""
    return {**card, "robustness": plain(_robustness(report))}


def to_markdown(card: Mapping[str, Any]) -> str:
    """A card as text."""
    parts = [
        f"# {card['name']}\n",
        f"An image classifier of {card['parameters']:,} parameters, as a TensorFlow SavedModel.\n",
        "```python",
        "classifier = hub.load(path)                             # tensorflow_hub",
        f"{card['outputs']['kind']} = classifier(images)",
        "layer = hub.KerasLayer(path, trainable=True)            # Keras 2; on Keras 3 keras.layers.TFSMLayer",
        "```\n",
        _section("Inputs", card["inputs"]),
        _section("Outputs", card["outputs"]),
        _section("Training", card["training"]),
        _robustness_section(card["robustness"]),
        _section("Versions", card["versions"]),
    ]
    return "\n".join(parts)


def _training(model):
    """How a `FlowRegularizedModel` was trained; nothing for another model."""
    if not isinstance(model, FlowRegularizedModel):
        return {}
    regularizer, attack = model.regularizer, model.attack
    return {
        "regularizer": None if regularizer is None else _regularizer(regularizer),
        "attack": None if attack is None else attack.settings(),
        "penalty_every": model.penalty_every,
        "clean_fraction": model.clean_fraction,
    }


def _regularizer(regularizer):
    config = regularizer.get_config()
    if hasattr(regularizer, "perturbation"):
        config["perturbation"] = type(regularizer.perturbation).__name__
    return {"class": type(regularizer).__name__, **config}


def _robustness(report):
    content = report.to_dict()
    return {
        "threat_model": "Displacements of pixels, in pixels; under an attack with a radius, no longer than that in its "
        "norm.",
        "examples": content["examples"],
        "trustworthy": content["trustworthy"],
        "findings": content["findings"],
        "clean_accuracy": content["clean_accuracy"],
        "robust_accuracy": [
            {key: run[key] for key in ("attack", "epsilon", "in_pixels", "accuracy") if key in run}
            for run in content["runs"]
        ],
        "worst_case": [{key: case[key] for key in ("epsilon", "accuracy")} for case in content["worst_case"]],
        "certified": [{key: case[key] for key in ("epsilon", "accuracy")} for case in content.get("certified", ())],
        "attacks": content["settings"]["attacks"],
        "versions": content["versions"],
    }


def _section(title, values):
    lines = [f"- {key.replace('_', ' ')}: {_text(value)}" for key, value in values.items()]
    return "\n".join([f"## {title}\n", *(lines or ["Not known."]), ""])


def _text(value):
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(entry)}" for key, entry in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _robustness_section(robustness):
    if robustness is None:
        return "## Robustness\n\nNot measured.\n"
    lines = [
        "## Robustness\n",
        f"{robustness['threat_model']} On {robustness['examples']} examples, with 95 % Clopper–Pearson intervals:\n",
        "| attack | ε (px) | accuracy | interval |",
        "| --- | ---: | ---: | ---: |",
        _row("clean", None, robustness["clean_accuracy"]),
        *(
            _row(title(run["attack"], run.get("in_pixels", True)), run["epsilon"], run["accuracy"])
            for run in robustness["robust_accuracy"]
        ),
        *(_row("**worst case**", case["epsilon"], case["accuracy"]) for case in robustness["worst_case"]),
        *(_row("**certified**", case["epsilon"], case["accuracy"]) for case in robustness["certified"]),
        "",
        *(f"- **{finding['check']}**: {finding['message']}" for finding in robustness["findings"]),
    ]
    return "\n".join(lines) + ("" if robustness["trustworthy"] else "\nNot to be trusted as it is: see above.\n")


def _row(name, epsilon, accuracy):
    radius = "" if epsilon is None else f"{epsilon:g}"
    return f"| {name} | {radius} | {accuracy['value']:.3f} | {accuracy['low']:.3f}–{accuracy['high']:.3f} |"

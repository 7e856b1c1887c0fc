r"""Writes a saved classifier as a reusable SavedModel, for TensorFlow Hub, Serving and Lite, with its model card.

python examples/evaluate.py --model=digits.keras --output=report
python examples/export.py --model=digits.keras --report=report.json --output=digits_hub
"""

from absl import app, flags

import keras_flowreg as fr
from flowreg_examples import models

_MODEL = flags.DEFINE_string("model", None, "a .keras file, with logits", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "the folder to make", required=True)
_REPORT = flags.DEFINE_string("report", None, "the JSON file of evaluate.py, for the card")
_RECIPE = flags.DEFINE_multi_string("recipe", [], "for the card: --recipe=epochs=16; may be given several times")
_UINT8_IMAGES = flags.DEFINE_bool("uint8_images", False, "whether to take integers from 0 to 255")
_PROBABILITIES = flags.DEFINE_bool("probabilities", False, "whether to end in a softmax")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "whether to replace what is there")
flags.register_validator("model", lambda path: path.endswith(".keras"), "Expected a path that ends in .keras")
flags.register_multi_flags_validator(
    ["recipe"], lambda values: all("=" in entry for entry in values["recipe"]), "Expected name=value."
)


def read_report():
    """The report of --report, or `None`."""
    if _REPORT.value is None:
        return None
    try:
        with open(_REPORT.value, encoding="utf-8") as file:
            return fr.RobustnessReport.from_json(file.read())
    except FileNotFoundError:
        raise app.UsageError(f"Expected `--report` to be a file. Received {_REPORT.value}.") from None


def main(_):
    report = read_report()
    fr.export(
        models.load(_MODEL.value),
        _OUTPUT.value,
        uint8_images=_UINT8_IMAGES.value,
        probabilities=_PROBABILITIES.value,
        report=report,
        recipe=dict(entry.split("=", 1) for entry in _RECIPE.value),
        overwrite=_OVERWRITE.value,
    )
    print(f"Exported {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)

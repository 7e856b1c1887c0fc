r"""Writes a saved classifier as a reusable SavedModel, for TensorFlow Hub, Serving and Lite, with its model card.

python examples/evaluate.py --model=digits.keras --output=report
python examples/export.py --model=digits.keras --report=report.json --output=digits_hub
"""

from absl import flags

import keras_flowreg as fr
from flowreg_examples import command_line, models, outputs
from keras_flowreg import files

models.define_flags("a .keras, .h5 or .hdf5 file, with logits")
_OUTPUT = flags.DEFINE_string("output", None, "the folder to make", required=True)
_REPORT = flags.DEFINE_string("report", None, "the JSON file of evaluate.py, for the card")
_RECIPE = flags.DEFINE_multi_string("recipe", [], "for the card: --recipe=epochs=16; may be given several times")
_UINT8_IMAGES = flags.DEFINE_bool("uint8_images", False, "whether to take integers from 0 to 255")
_PROBABILITIES = flags.DEFINE_bool("probabilities", False, "whether to end in a softmax")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "whether to replace what is there")
flags.register_validator(
    "model", lambda path: path.endswith((".keras", ".h5", ".hdf5")), "Expected a path that ends in .keras, .h5 or .hdf5"
)
flags.register_multi_flags_validator(
    ["recipe"], lambda values: all("=" in entry for entry in values["recipe"]), "Expected name=value."
)


def main(_):
    report = outputs.read_report(_REPORT.value) if _REPORT.value else None
    files.expect_writable("--output", _OUTPUT.value, folder=True)
    fr.export(
        models.load(),
        _OUTPUT.value,
        uint8_images=_UINT8_IMAGES.value,
        probabilities=_PROBABILITIES.value,
        report=report,
        recipe=dict(entry.split("=", 1) for entry in _RECIPE.value),
        overwrite=_OVERWRITE.value,
    )
    print(f"Exported {_OUTPUT.value}")


if __name__ == "__main__":
    command_line.run(main)

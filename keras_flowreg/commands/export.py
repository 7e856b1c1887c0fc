r"""Writes a saved classifier as a reusable SavedModel, for TensorFlow Hub, Serving and Lite, with its model card.

keras-flowreg evaluate --model=digits.keras --output=report
keras-flowreg export --model=digits.keras --report=report.json --output=digits_hub
"""

from absl import flags

import keras_flowreg as fr
from keras_flowreg import files
from keras_flowreg.commands import models, outputs
from keras_flowreg.commands.command_line import Result

_ENDINGS = (".keras", ".h5", ".hdf5")


def define_flags() -> None:
    """Those of a model; what the card says, and how the model is called."""
    models.define_flags("a .keras, .h5 or .hdf5 file, with logits")
    flags.DEFINE_string("output", None, "the folder to make", required=True)
    flags.DEFINE_string("report", None, "the JSON file of the command evaluate, for the card")
    flags.DEFINE_multi_string("recipe", [], "for the card: --recipe=epochs=16; may be given several times")
    flags.DEFINE_bool("uint8_images", False, "whether to take integers from 0 to 255")
    flags.DEFINE_bool("probabilities", False, "whether to end in a softmax")
    flags.DEFINE_bool("overwrite", False, "whether to replace what is there")
    flags.register_validator(
        "model", lambda path: path.endswith(_ENDINGS), "Expected a path that ends in .keras, .h5 or .hdf5"
    )
    flags.register_validator("recipe", lambda entries: all("=" in entry for entry in entries), "Expected name=value.")


def main() -> Result:
    """Exports the model of the flags."""
    args = flags.FLAGS
    report = outputs.read_report(args.report) if args.report else None
    files.expect_writable("--output", args.output, folder=True)
    fr.export(
        models.load(),
        args.output,
        value_range=models.value_range() if args.value_range else None,
        uint8_images=args.uint8_images,
        probabilities=args.probabilities,
        report=report,
        recipe=dict(entry.split("=", 1) for entry in args.recipe),
        overwrite=args.overwrite,
    )
    return Result(f"Exported {args.output}", {"output": args.output})

"""What the commands write: checked before the work, and never in the place of a file that is not ours."""

import contextlib
import json
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

import keras_flowreg as fr
from keras_flowreg import files
from keras_flowreg.evaluation.plain import plain
from keras_flowreg.types import KerasModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS = "settings.json"  # in a folder of logs: what they are of
_REPORT_ENDINGS = ("json", "md", "png")
_SOFTWARE = "keras_flowreg"  # in a picture of ours
_SIGNATURE = f"\n<!-- {_SOFTWARE} "  # in a text of ours


def expect_model_path(path: str, flag: str) -> None:
    """Checks, before the training, that a model can be saved there."""
    files.expect_writable(f"--{flag}", path)
    if os.path.exists(path) and not _is_our_model(path):
        raise ValueError(f"Expected `--{flag}` to be new, or a model of ours. Received {path}, which is another file.")


def save_model(model: KerasModel, path: str) -> None:
    """Saves a model whole or not at all; an error for one whose training has diverged."""
    if not all(np.isfinite(weights).all() for weights in model.get_weights()):
        raise ValueError("Expected finite weights to save. Received NaN or infinity: the training has diverged.")
    with files.replacing(path) as new:
        model.save(new)


def expect_report_path(prefix: str, flag: str) -> None:
    """Checks, before the attacks, that a report can be written there."""
    if not os.path.basename(prefix) or os.path.isdir(prefix):
        raise ValueError(f"Expected `--{flag}` to be a path without an ending. Received {prefix}, which is a folder.")
    fr.pictures.expect_matplotlib()
    paths = [f"{prefix}.{ending}" for ending in _REPORT_ENDINGS]
    for path in paths:
        files.expect_writable(f"--{flag}", path)
    for path in paths:
        if os.path.lexists(path) and not _is_of_report(path):
            raise ValueError(f"Expected `--{flag}` to be new, or a report's. Received {path}, which is another file.")


def write_report(report: fr.RobustnessReport, prefix: str) -> None:
    """Writes a report in three forms."""
    files.write_text(f"{prefix}.json", report.to_json())
    files.write_text(f"{prefix}.md", _signed(report.to_markdown()))
    save_picture(report.plot().figure, f"{prefix}.png")


def read_report(path: str) -> fr.RobustnessReport:
    """The report in a JSON file."""
    try:
        with open(path, encoding="utf-8") as file:
            return fr.RobustnessReport.from_json(file.read())
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected {path} to be the JSON file of a report. Received {error}") from error


def expect_picture_path(path: str, flag: str) -> None:
    """Checks, before the work, that a picture can be written there."""
    from matplotlib.backend_bases import FigureCanvasBase

    endings = FigureCanvasBase.get_supported_filetypes()
    if os.path.splitext(path)[1].lstrip(".").lower() not in endings:
        raise ValueError(f"Expected `--{flag}` to end in one of {', '.join(sorted(endings))}. Received {path}.")
    files.expect_writable(f"--{flag}", path)
    if os.path.exists(path) and not _is_our_picture(path):
        raise ValueError(
            f"Expected `--{flag}` to be new, or a picture of ours. Received {path}, which is another file."
        )


def save_picture(figure: "Figure", path: str, dpi: int = 120) -> None:
    """Writes a figure whole or not at all. A PNG file says that it is ours."""
    metadata = {"Software": _SOFTWARE} if path.lower().endswith(".png") else None
    with files.replacing(path) as new:
        figure.savefig(new, dpi=dpi, metadata=metadata)


@contextlib.contextmanager
def claimed_folder(folder: str, settings: Mapping[str, Any], flag: str) -> Iterator[None]:
    """Makes a folder for the logs of one training, or checks that those in it are of the same one.

    As long as the context lasts, no other process can claim it.

    Args:
      folder: the path.
      settings: what decides the training, as plain values.
      flag: the flag that names the folder.
    """
    files.expect_writable(f"--{flag}", folder, folder=True)
    os.makedirs(folder, exist_ok=True)
    path, settings = os.path.join(folder, SETTINGS), plain(settings)
    if not os.path.exists(path):
        if any(not name.startswith(".") for name in os.listdir(folder)):
            raise ValueError(f"Expected `--{flag}` to be empty, or logs of this training. Received {folder}: others.")
        files.write_text(path, json.dumps(settings, indent=2, allow_nan=False))
    written = read_json(path)
    different = sorted(name for name in {*written, *settings} if written.get(name) != settings.get(name))
    if different:
        raise ValueError(
            f"Expected `--{flag}` to be empty, or logs of this training. Received {folder}, whose training has another "
            f"{', '.join(different)}."
        )
    with open(path, "rb") as file:
        files.lock(file)
        yield


def read_json(path: str) -> dict[str, Any]:
    """The dictionary in a JSON file."""
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected {path} to be a file of JSON. Received {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"Expected {path} to hold a dictionary. Received {type(values).__name__}.")
    return values


def _is_our_model(path):
    """Whether it is a Keras file of a `FlowRegularizedModel`."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError):
        return False
    return config.get("registered_name") == keras.saving.get_registered_name(fr.FlowRegularizedModel)


def _is_of_report(path):
    """Whether it is a report's JSON file, its picture, or its text as it was written."""
    if path.endswith(".png"):
        return _is_our_picture(path)
    try:
        if path.endswith(".json"):
            return bool(read_report(path))
        text = pathlib.Path(path).read_text(encoding="utf-8")
        return text == _signed(text[: text.rfind(_SIGNATURE)])
    except (OSError, ValueError):
        return False


def _signed(text):
    """A text with a checksum, which tells one that somebody has changed."""
    return f"{text}{_SIGNATURE}{zlib.crc32(text.encode()):08x} -->\n"


def _is_our_picture(path):
    """Whether a PNG file has our name among its texts."""
    with open(path, "rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return False
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            content = file.read(length + 4)
            if kind == b"tEXt" and content[:-4] == b"Software\0" + _SOFTWARE.encode():
                return True
    return False

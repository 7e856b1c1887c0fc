"""The report of a study, from the JSON files of its cells: tables, verdicts on the claims, and figures."""

import os
import pathlib

from flowreg_examples.study_report import claims, figures, tables
from flowreg_examples.study_report.variants import choose, read
from keras_flowreg import files
from keras_flowreg.commands import outputs

REPORT = "report.md"
_FIGURES = ("curves.png", "radii.png", "bounds.png")


def expect_writable(folder):
    """Checks, before long work, that a report can be written into a folder.

    Raises:
      OSError: if the folder cannot be written to.
      ValueError: if another file would be replaced.
    """
    path = pathlib.Path(folder, REPORT)
    files.expect_writable("--output", path)
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(tables.TITLE):
        raise ValueError(f"Expected `--output` to be the folder of a study. Received {path}, which is another file.")
    for name in _FIGURES:
        outputs.expect_picture_path(os.path.join(folder, name), "output")


def write(folder):
    """Writes report.md and its figures from the JSON files in a folder; returns the report's path.

    Raises:
      ValueError: if there are none.
    """
    settings = read(folder)
    if not settings:
        raise ValueError(f"Expected results of reproduce.py in {folder}. Received none.")
    chosen = {name: choose(variants) for name, variants in settings.items()}
    curves, radii, bounds = (os.path.join(folder, name) for name in _FIGURES)
    figures.draw_clean_against_robust(settings, curves)
    figures.draw_radii(chosen, radii)
    figures.draw_bounds(chosen, bounds)
    parts = [tables.introduction(settings), *claims.claims(chosen), *claims.choices(settings), "## Results\n"]
    parts += ["![Robust against clean accuracy](curves.png)\n\n![Robust accuracy by radius](radii.png)\n"]
    parts += [tables.results(name, variants, chosen[name].values()) for name, variants in settings.items()]
    parts += [tables.bounds(chosen)]
    path = os.path.join(folder, REPORT)
    files.write_text(path, "\n".join(parts))
    return path

"""The report of a study, from the JSON files of its cells: tables, verdicts on the claims, and figures."""

import os

from flowreg_examples.study_report import claims, figures, tables
from flowreg_examples.study_report.variants import choose, read
from keras_flowreg import files


def write(folder):
    """Writes report.md and its figures from the JSON files in a folder; returns the report's path.

    Raises:
      ValueError: if there are none.
    """
    settings = read(folder)
    if not settings:
        raise ValueError(f"Expected results of reproduce.py in {folder}. Received none.")
    chosen = {name: choose(variants) for name, variants in settings.items()}
    figures.draw_clean_against_robust(settings, os.path.join(folder, "curves.png"))
    figures.draw_radii(chosen, os.path.join(folder, "radii.png"))
    figures.draw_bounds(chosen, os.path.join(folder, "bounds.png"))
    parts = [tables.introduction(settings), *claims.claims(chosen), *claims.choices(settings), "## Results\n"]
    parts += ["![Robust against clean accuracy](curves.png)\n\n![Robust accuracy by radius](radii.png)\n"]
    parts += [tables.results(name, variants, chosen[name].values()) for name, variants in settings.items()]
    parts += [tables.bounds(chosen)]
    path = os.path.join(folder, "report.md")
    files.write_text(path, "\n".join(parts))
    return path

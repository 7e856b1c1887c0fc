r"""Runs a tutorial, and writes it as a page, with what its code prints and draws.

    python examples/tutorial.py --script=docs/tutorials/fooled.py

writes docs/tutorials/fooled.md and its figures, fooled-1.png and on, in the place of those that it wrote before.
"""

import os
import pathlib

import matplotlib
from absl import flags

from flowreg_examples import tutorial
from keras_flowreg import files
from keras_flowreg.commands import command_line, outputs
from keras_flowreg.commands.command_line import Result


def define_flags():
    """Which tutorial."""
    flags.DEFINE_string("script", None, "the tutorial, a Python file of cells", required=True)
    flags.register_validator("script", lambda path: path.endswith(".py"), "Expected a path that ends in .py")


def save_figures(drawn, stem):
    """Writes the figures of all cells; returns the names of the files, cell by cell."""
    numbers, names = iter(range(1, 1000)), []
    for output in drawn:
        named = {f"{stem.name}-{next(numbers)}.png": figure for figure in (output.figures if output else ())}
        for name, figure in named.items():
            outputs.expect_picture_path(str(stem.with_name(name)), "script")
            outputs.save_picture(figure, str(stem.with_name(name)), dpi=72)
        names.append(list(named))
    return names


def main():
    matplotlib.use("Agg")
    path = pathlib.Path(flags.FLAGS.script)
    cells = tutorial.cells(path.read_text(encoding="utf-8"))
    page = path.with_suffix(".md")
    files.expect_writable("--script", os.fspath(page))
    tutorial.expect_page(page)
    drawn, _ = tutorial.run(cells)
    files.write_text(page, tutorial.page(path.name, cells, drawn, save_figures(drawn, path.with_suffix(""))))
    return Result(f"Wrote {page}", {"page": os.fspath(page)})


if __name__ == "__main__":
    command_line.run(main, define_flags)

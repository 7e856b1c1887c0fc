"""Tutorials: Python scripts of cells, `# %%` for code and `# %% [markdown]` for text, as Jupyter and editors open them.

A first cell of code, `# %% tags=["parameters"]`, sets sizes, which a short run replaces.
"""

import contextlib
import io
import linecache
import re
from typing import NamedTuple

from matplotlib import pyplot

_MADE_OF = "This page is made from [a script of cells]"
_MARK = re.compile(r"^# %%(.*)\n", re.MULTILINE)


class Cell(NamedTuple):
    """A part of a tutorial.

    Attributes:
      kind: `"markdown"`, `"parameters"` or `"code"`.
      text: what is in it; of markdown, without the signs of a comment.
    """

    kind: str
    text: str


class Output(NamedTuple):
    """What a cell of code has printed, and the figures that it has drawn."""

    words: str
    figures: list


def cells(script):
    """The cells of a script's text."""
    _, *parts = _MARK.split(script)
    return [_cell(mark, text) for mark, text in zip(parts[::2], parts[1::2])]


def _cell(mark, text):
    if "[markdown]" in mark:
        return Cell("markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip())
    return Cell("parameters" if "parameters" in mark else "code", text.strip())


def run(tutorial, parameters=None):
    """Runs the cells one by one, in one namespace.

    Args:
      tutorial: a list of `Cell`s.
      parameters: values by name, in the place of those that the cell of parameters sets; an unknown name is an error.

    Returns:
      An `Output` or `None` for each cell, and the names that are defined in the end.
    """
    names, outputs = {"__name__": "__main__"}, []
    for number, cell in enumerate(tutorial):
        if cell.kind == "markdown":
            outputs.append(None)
            continue
        with contextlib.redirect_stdout(io.StringIO()) as words:
            exec(_compiled(cell.text, f"<cell {number}>"), names)
        if cell.kind == "parameters":
            names.update({name: value for name, value in (parameters or {}).items() if name in names})
        outputs.append(Output(words.getvalue().strip(), [pyplot.figure(number) for number in pyplot.get_fignums()]))
        pyplot.close("all")
    return outputs, names


def _compiled(text, name):
    """Code whose source can be looked up, as `tf.function` does."""
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    return compile(text, name, "exec")


def page(script_path, tutorial, outputs, picture_paths):
    """The tutorial as Markdown, with what its code has printed and drawn.

    Args:
      script_path: where the script is, seen from the page.
      tutorial: a list of `Cell`s.
      outputs: an `Output` or `None` for each.
      picture_paths: for each cell, the paths of its figures.
    """
    parts = []
    for cell, output, paths in zip(tutorial, outputs, picture_paths):
        parts.append(cell.text if cell.kind == "markdown" else f"```python\n{cell.text}\n```")
        if output and output.words:
            parts.append(f"```text\n{output.words}\n```")
        parts.extend(f"![{cell.text.splitlines()[0].lstrip('# ')}]({path})" for path in paths)
    parts.append(f"{_MADE_OF}({script_path}), which Jupyter and editors open.")
    return "\n\n".join(parts) + "\n"


def expect_page(path):
    """Checks that there is nothing at a path, or a page of a tutorial, which is replaced."""
    if path.exists() and _MADE_OF not in path.read_text(encoding="utf-8"):
        raise ValueError(f"Expected {path} to be new, or the page of a tutorial. Received another file.")

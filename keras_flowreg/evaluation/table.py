"""A report as a table, in Markdown."""

from typing import TYPE_CHECKING

import numpy as np

from keras_flowreg.evaluation.results import CONFIDENCE, accuracy, title

if TYPE_CHECKING:
    from keras_flowreg.evaluation.report import RobustnessReport

# Of the columns of measures, how many decimals they have.
_DECIMALS = {"loss": 3, "median": 3, "largest": 3, "roughness": 3, "queries": 0, "seconds": 1}
_LEFT_OUT = (
    "Where fewer examples were attacked than there are, the others are certified. Of those that are, {} was attacked."
)


def markdown(report: "RobustnessReport") -> str:
    """A table of the runs, the worst case and what is certified, and below it what was found.

    ```python
    from keras_flowreg.evaluation import table

    report = fr.evaluate_robustness(model, (images, labels), fr.attacks.RandomFlow(0.4), [0.4], check=False)
    print(table.markdown(report))
    ```
    """
    lines = [
        f"{report.examples} examples; accuracy with its {CONFIDENCE:.0%} interval (Clopper-Pearson). Displacements "
        "in pixels: over the examples, the median of the median pixel's and the largest pixel's.",
        "",
        "| attack | ε (px) | accuracy | interval | attacked | loss | median px | largest px | roughness | queries "
        "| seconds |",
        "| --- " + "| ---: " * 10 + "|",
        _row("clean", None, report.correct),
    ]
    for run, robust in report.robust.items():
        attacked = int(np.sum(report.attacked.get(run, np.ones(report.examples, bool))))
        name = title(run.attack, run.attack not in report.other_radii)
        lines.append(_row(name, run.epsilon, robust, attacked, report.measures[run]))
    lines += [_row("**worst case**", epsilon, robust) for epsilon, robust in report.worst_case().items()]
    lines += [_row("**certified**", epsilon, proven) for epsilon, proven in report.certified.items()]
    if report.attacked:
        lines += ["", _LEFT_OUT.format(report.settings.get("certify", {}).get("attacked", "a draw"))]
    lines += ["", *(f"- **{finding.check}**: {finding.message}" for finding in report.findings)]
    if report.findings:
        lines.append("\nNot to be trusted as it is: see above.")
    return "\n".join(lines).rstrip() + "\n"


def _row(name, epsilon, kept, attacked="", measures=None):
    part, radius = accuracy(kept), "" if epsilon is None else f"{epsilon:g}"
    cells = [name, radius, f"{part.value:.3f}", f"{part.low:.3f}–{part.high:.3f}", str(attacked)]
    cells += [_cell(measures and measures[measure], decimals) for measure, decimals in _DECIMALS.items()]
    return "| " + " | ".join(cells) + " |"


def _cell(number, decimals):
    """A number of a table; empty, if there is none."""
    return "" if number is None or np.isnan(number) else f"{number:.{decimals}f}"

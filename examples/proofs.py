r"""Compares reports of several models: what is proven, and what is attacked.

    for method in plain flow_gradient deformation_training certified_training; do
      keras-flowreg train --dataset=digits --architecture=strided_cnn --width=1 \
          --method=$method --output=proofs/$method.keras
      keras-flowreg evaluate --dataset=digits --model=proofs/$method.keras --certify --examples=300 --output=proofs/$method
    done
    python examples/proofs.py --reports=proofs/plain.json --reports=proofs/flow_gradient.json ... --picture=proofs.png

Prints one table and writes one picture, with a band from the one to the other for each report. A report has its file's name.
"""

import pathlib

import numpy as np
from absl import flags
from matplotlib import pyplot

from keras_flowreg.commands import command_line, outputs
from keras_flowreg.commands.command_line import Result


def define_flags():
    """Which reports, and where the picture goes."""
    flags.DEFINE_multi_string("reports", None, "JSON files of reports, made with --certify", required=True)
    flags.DEFINE_string("picture", "proofs.png", "where to write the picture")


def read(path):
    """A report that says what is proven."""
    report = outputs.read_report(path)
    if not report.certified:
        raise ValueError(f"Expected a report of an evaluation with --certify. Received {path}, without certificates.")
    return report


def expect_same_radii(reports):
    """Checks that all reports have the same radii."""
    radii = {name: sorted(report.certified) for name, report in reports.items()}
    if len(set(map(tuple, radii.values()))) > 1:
        raise ValueError(f"Expected reports of the same radii. Received {radii}.")


def ends(report):
    """`{ε: (certified, attacked)}`, from a radius of 0, where both are the clean accuracy."""
    worst, clean = report.worst_case(), report.clean_accuracy.value
    both = {
        epsilon: (float(np.mean(proven)), float(np.mean(worst[epsilon])))
        for epsilon, proven in report.certified.items()
    }
    return {0.0: (clean, clean), **both}


def table(reports):
    """One report a row, in Markdown: certified – attacked, at each radius."""
    radii = list(next(iter(reports.values())).certified)
    lines = [
        "| training | clean | " + " | ".join(f"ε = {radius:g} px" for radius in radii) + " |",
        "| --- " + "| ---: " * (len(radii) + 1) + "|",
    ]
    for name, report in reports.items():
        both = ends(report)
        cells = " | ".join("{:.3f}–{:.3f}".format(*both[radius]) for radius in radii)
        lines.append(f"| {name} | {report.clean_accuracy.value:.3f} | {cells} |")
    return "\n".join(lines)


def draw(reports):
    """A band from what is proven to what is attacked, for each report."""
    figure = pyplot.figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, report) in enumerate(reports.items()):
        radii, both = zip(*ends(report).items())
        certified, attacked = zip(*both)
        axes.fill_between(radii, certified, attacked, color=f"C{number}", alpha=0.15, linewidth=0)
        axes.plot(radii, attacked, color=f"C{number}", label=name)
        axes.plot(radii, certified, color=f"C{number}", linestyle="--")
    axes.set(xlabel="ε: largest displacement (pixels)", ylabel="accuracy", ylim=(0, 1.02))
    axes.set_title("Under attack (solid) and certified (dashed); the truth is between", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def main():
    args = flags.FLAGS
    outputs.expect_picture_path(args.picture, "picture")
    names = [pathlib.Path(path).stem for path in args.reports]
    if len(set(names)) < len(names):
        raise ValueError(f"Expected reports of different names. Received {', '.join(names)}.")
    reports = {name: read(path) for name, path in zip(names, args.reports)}
    expect_same_radii(reports)
    outputs.save_picture(draw(reports), args.picture)
    values = {
        name: [
            {"epsilon": epsilon, "certified": low, "attacked": high} for epsilon, (low, high) in ends(report).items()
        ]
        for name, report in reports.items()
    }
    return Result(f"{table(reports)}\n\nWrote {args.picture}", values)


if __name__ == "__main__":
    command_line.run(main, define_flags)

"""The figures of a study, with one panel for each setting."""

import contextlib
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np

import keras_flowreg as fr
from flowreg_examples.study_report.variants import STRONGEST
from keras_flowreg.commands import outputs

COLORS = {
    "plain": "black",
    "plain-activation=swish-cosine": "gray",
    "flow_gradient": "tab:blue",
    "flow_gradient-authors": "navy",
    "flow_gradient-activation=swish": "tab:cyan",
    "flow_gradient-activation=swish-cosine": "tab:pink",
    "input_gradient": "tab:orange",
    "input_gradient-activation=swish-cosine": "gold",
    "flow_consistency": "deeppink",
    "flow_consistency-activation=swish": "hotpink",
    "flow_consistency-activation=swish-cosine": "crimson",
    "deformation_training": "tab:green",
    "deformation_training-deformation=FlowFrankWolfe-steps=1": "limegreen",
    "deformation_training-activation=swish": "tab:olive",
    "deformation_training-activation=swish-deformation=FlowFrankWolfe-steps=1": "darkgoldenrod",
    "deformation_training-activation=swish-cosine-deformation=FlowFrankWolfe-steps=1": "saddlebrown",
    "intensity_training": "tab:red",
    "intensity_training-activation=swish-cosine": "darkred",
    "flow_gradient+deformation_training": "tab:purple",
    "flow_gradient+deformation_training-deformation=FlowFrankWolfe-steps=1": "mediumpurple",
    "flow_gradient+deformation_training-activation=swish-deformation=FlowFrankWolfe-steps=1": "violet",
    "flow_gradient+deformation_training-activation=swish-cosine-deformation=FlowFrankWolfe-steps=1": "indigo",
}
# Of other changes to a method: none of those above.
_OTHER_COLORS = [*plt.get_cmap("tab20b").colors[::2], *plt.get_cmap("tab20b").colors[1::2]]
# A variant's name, for people.
_WORDS = {
    "-authors": ", authors' form",
    "-activation=swish": ", swish",
    "-cosine": ", 40 epochs along a cosine",
    "-deformation=FlowFrankWolfe-steps=1": ", one step",
    "-weight=": ", weight ",
    "_": " ",
    "+": " + ",
}
_COLUMNS = 3
_PANEL_INCHES = 4.6, 4
_LEGEND_LINE_INCHES = 0.17


def draw_clean_against_robust(settings, path):
    """Robust against clean accuracy: one line a family, along its weights."""
    with _panels(settings, path) as panels:
        for axes, variants in panels:
            others = itertools.cycle(_OTHER_COLORS)
            for family in dict.fromkeys(variant.family for variant in variants):
                points = [(np.mean(v.clean()), np.mean(v.worst())) for v in variants if v.family == family]
                color = COLORS.get(family) or next(others)
                axes.plot(*zip(*points), marker="o", color=color, label=_label(family))
            epsilon = variants[0].setting["epsilon"]
            axes.set(xlabel="clean accuracy", ylabel=f"worst case up to {epsilon:g} px")
            axes.locator_params(axis="x", nbins=6)  # Ticks of four digits would touch.


def draw_radii(chosen, path):
    """Accuracy under the strongest attack against ε, for each family's chosen weight."""
    with _panels(chosen, path) as panels:
        for axes, variants in panels:
            curves = {_label(variant.name): _accuracy_by_radius(variant) for variant in variants.values()}
            styles = {_label(variant.name): {"color": COLORS[family]} for family, variant in variants.items()}
            fr.pictures.plot_accuracy(axes, curves, styles=styles, ylabel=f"accuracy under {STRONGEST}")


def draw_bounds(chosen, path):
    """How near the measured rise comes to each bound, before and after regularization."""
    with _panels(chosen, path) as panels:
        for axes, variants in panels:
            for family in ("plain", "flow_gradient"):
                if family in variants:
                    _draw_ratios(axes, family, variants[family].bounds())
            axes.axvline(1, color="gray", linewidth=1)
            axes.set(xlabel="measured rise / bound", ylabel="part of the images", xlim=(0.1, 1e5), ylim=(0, 1))


def _accuracy_by_radius(variant):
    runs = [run for run in variant.runs() if run.attack == STRONGEST]
    return {0.0: np.mean(variant.clean()), **{run.epsilon: np.mean(variant.robust(*run)) for run in runs}}


def _draw_ratios(axes, family, bounds):
    """The part of the images below each ratio of the measured rise to a bound."""
    for gradient, style in (("flow", "-"), ("input", ":")):
        ratios = np.sort(bounds["rise"] / np.maximum(bounds[gradient], 1e-9))
        parts = np.arange(1, len(ratios) + 1) / len(ratios)
        axes.semilogx(ratios, parts, style, color=COLORS[family], label=f"{_label(family)}: {gradient} bound")


def _label(name):
    for part, words in _WORDS.items():
        name = name.replace(part, words)
    return name


@contextlib.contextmanager
def _panels(settings, path):
    """Gives a panel and the value of each setting, and saves the figure that they make."""
    columns = min(len(settings), _COLUMNS)
    rows = math.ceil(len(settings) / columns)
    figure, panels = plt.subplots(rows, columns, layout="constrained", squeeze=False)
    panels = panels.ravel()
    yield list(zip(panels, settings.values()))
    for axes in panels[len(settings) :]:
        axes.remove()
    for axes, name in zip(panels, settings):
        axes.set_title(name)
        axes.grid(alpha=0.3)
        # Below, where it hides no point.
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    legend_lines = max(len(axes.lines) for axes in panels[: len(settings)])
    width, height = _PANEL_INCHES
    figure.set_size_inches(width * columns, (height + _LEGEND_LINE_INCHES * legend_lines) * rows)
    outputs.save_picture(figure, path, dpi=110)
    plt.close(figure)

"""The report of a study, from the JSON files of its cells: tables, verdicts on the claims, and figures."""

import collections
import contextlib
import glob
import itertools
import json
import math
import os
import re

import matplotlib.pyplot as plt
import numpy as np

import keras_flowreg as fr
from common.study import write_text
from keras_flowreg.report import Run, accuracy

# A weight is chosen among those that cost no more clean accuracy than this, on validation images.
CLEAN_COST = 0.05
_STRONGEST = "FlowFrankWolfe"
_AUTHORS = "authors' K=100"
_Z = 1.96
_DIFFERENCES = (
    "Differences in points, of clean and of robust accuracy, over the seeds that both have, with 95 % intervals over",
    "the attacked images (paired); where there are several seeds, the least and the greatest difference of one seed",
    "in brackets.",
)
_COLUMNS = 3
_COLORS = {
    "plain": "black",
    "flow_gradient": "tab:blue",
    "flow_gradient-activation=swish": "tab:cyan",
    "input_gradient": "tab:orange",
    "deformation_training": "tab:green",
    "deformation_training-activation=swish": "tab:olive",
    "intensity_training": "tab:red",
    "flow_gradient+deformation_training": "tab:purple",
}
# Of other changes to a method: none of those above.
_OTHER_COLORS = [*plt.get_cmap("tab20b").colors[::2], *plt.get_cmap("tab20b").colors[1::2]]
_PANEL_INCHES = 4.6, 4
_LEGEND_LINE_INCHES = 0.17


class Variant:
    """All seeds of one way to train in one setting.

    Args:
      results: what `study.run` returned, for each seed.
    """

    def __init__(self, results):
        self.results = {result["seed"]: result for result in results}
        first = results[0]
        self.name, self.method, self.setting = first["variant"], first["recipe"]["method"], first["setting"]
        self.reports = {seed: _report(result, "test") for seed, result in self.results.items()}

    @property
    def family(self):
        """The name without the weight: what a curve connects."""
        return re.sub("-weight=[^-]*", "", self.name)

    def clean(self):
        """`[examples]`: the part of the seeds that classify each correctly."""
        return np.mean([report.correct for report in self.reports.values()], axis=0)

    def robust(self, attack, epsilon=None):
        """`[examples]`: the part of the seeds that are robust on each."""
        return np.mean([report.robust[Run(attack, epsilon)] for report in self.reports.values()], axis=0)

    def worst(self):
        """`robust`, to every attack up to the setting's radius."""
        epsilon = self.setting["epsilon"]
        return np.mean([report.worst_case()[epsilon] for report in self.reports.values()], axis=0)

    def measure(self, name, attack, epsilon=None):
        return np.mean([report.measures[Run(attack, epsilon)][name] for report in self.reports.values()])

    def validation(self):
        """Clean accuracy, and robust accuracy at the setting's radius, on validation images."""
        reports = [_report(result, "validation") for result in self.results.values()]
        run = Run(_STRONGEST, self.setting["epsilon"])
        return np.mean([r.correct for r in reports]), np.mean([r.robust[run] for r in reports])

    def runs(self):
        return list(next(iter(self.reports.values())).robust)

    def bounds(self):
        """`{"flow", "input", "rise": [examples of all seeds]}`."""
        return {
            name: np.concatenate([result["bounds"][name] for result in self.results.values()])
            for name in ("flow", "input", "rise")
        }


def write(folder):
    """Writes report.md and its figures from the JSON files in a folder; returns the report's path.

    Raises:
      ValueError: if there are none.
    """
    settings = _read(folder)
    if not settings:
        raise ValueError(f"Expected results of reproduce.py in {folder}. Received none.")
    chosen = {name: _choose(variants) for name, variants in settings.items()}
    _draw_curves(settings, os.path.join(folder, "curves.png"))
    _draw_radii(chosen, os.path.join(folder, "radii.png"))
    _draw_bounds(chosen, os.path.join(folder, "bounds.png"))
    parts = [_introduction(settings), *_claims(chosen), *_choices(settings), "## Results\n"]
    parts += ["![Robust against clean accuracy](curves.png)\n\n![Robust accuracy by radius](radii.png)\n"]
    parts += [_table(name, variants, chosen[name].values()) for name, variants in settings.items()]
    parts += [_bounds_table(chosen)]
    path = os.path.join(folder, "report.md")
    write_text(path, "\n".join(parts))
    return path


def _read(folder):
    """`{setting: [Variant, ...]}`, in the order of their first cells."""
    by_setting = collections.defaultdict(lambda: collections.defaultdict(list))
    for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        name = f"{result['setting']['dataset']}-{result['setting']['architecture']}"
        by_setting[name][result["variant"]].append(result)
    order = list(_COLORS)
    return {
        name: sorted(
            (Variant(results) for results in variants.values()),
            key=lambda variant: (order.index(variant.method), next(iter(variant.results.values()))["recipe"]["weight"]),
        )
        for name, variants in by_setting.items()
    }


def _report(result, split):
    return fr.RobustnessReport.from_json(json.dumps(result[split]))


def _choose(variants):
    """`{family: Variant}`: by robust accuracy on validation images, among those that stay accurate there."""
    families = collections.defaultdict(list)
    for variant in variants:
        if variant.family in _COLORS:
            families[variant.family].append(variant)
    least = families["plain"][0].validation()[0] - CLEAN_COST if families["plain"] else 0.0
    return {family: _most_robust(candidates, least) for family, candidates in families.items() if candidates}


def _most_robust(variants, least_clean):
    affordable = [variant for variant in variants if variant.validation()[0] >= least_clean]
    if affordable:
        return max(affordable, key=lambda variant: variant.validation()[1])
    return max(variants, key=lambda variant: variant.validation()[0])


def _introduction(settings):
    lines = [
        "# Results of the study\n",
        "Written by `examples/reproduce.py --report` from the JSON files beside it, which hold every setting, seed and",
        "version. Robust accuracy: classified correctly clean, and under the attack. ε is the largest component of a",
        "pixel's displacement, in pixels. Attacks start at the first test image. The interval is Clopper–Pearson's at",
        f"95 %. Weights were chosen by {_STRONGEST} on held-out training images: the most robust of those that cost no",
        f"more than {CLEAN_COST:.0%} of clean accuracy there; test images chose nothing. "
        "Of the epochs after the warm-up that",
        "with the best mean of clean accuracy and accuracy under FlowPGD in 5 steps there was kept.\n",
        "| setting | width | training images | batch | epochs | attacked images | seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, variants in settings.items():
        setting = variants[0].setting
        seeds = sorted({seed for variant in variants for seed in variant.results})
        lines.append(
            f"| {name} | {setting['width']:g} | {setting['train_size'] or 'all but validation'} | "
            f"{setting['batch_size']} | {setting['schedule']['epochs']} | {setting['examples']} | "
            f"{', '.join(map(str, seeds))} |"
        )
    return "\n".join(lines) + "\n"


def _seen(variant):
    """Flows within the radius: the authors' attack and the strongest."""
    epsilon = variant.setting["epsilon"]
    wanted = ((_STRONGEST, epsilon), ("AutoDeform", epsilon))
    return [run for run in variant.runs() if run.attack == _AUTHORS or run in wanted]


def _unseen(variant):
    """Attacks of another kind than the training's."""
    epsilon = variant.setting["epsilon"]
    wanted = ("RotationTranslation", "StAdv", "FlowSquare", _STRONGEST)
    return [run for run in variant.runs() if run.attack in wanted and run.epsilon in (None, epsilon)]


# A claim, the family that it puts above others, those, and the attacks that decide.
_CLAIMS = (
    ("flow gradient over plain training", "flow_gradient", ["plain"], _seen),
    ("1. flow gradient over input gradient", "flow_gradient", ["input_gradient"], _seen),
    ("2. flow gradient over adversarial training", "flow_gradient", ["intensity_training"], _seen),
    ("2. flow gradient over deformation training", "flow_gradient", ["deformation_training"], _seen),
    ("3. the same, unseen attacks", "flow_gradient", ["deformation_training"], _unseen),
    (
        "flow gradient with swish over ReLU",
        "flow_gradient-activation=swish",
        ["flow_gradient"],
        _seen,
    ),
    (
        "2. with swish, flow gradient over deformation training",
        "flow_gradient-activation=swish",
        ["deformation_training-activation=swish"],
        _seen,
    ),
    (
        "3. with swish, unseen attacks",
        "flow_gradient-activation=swish",
        ["deformation_training-activation=swish"],
        _unseen,
    ),
    (
        "4. both together over either",
        "flow_gradient+deformation_training",
        ["flow_gradient", "deformation_training"],
        _seen,
    ),
)


def _claims(chosen):
    """Each of the claims, with the difference that speaks for or against each; nothing, where there is none."""
    rows = []
    for claim, better, worse, attacks in _CLAIMS:
        for name, variants in chosen.items():
            if better in variants and all(method in variants for method in worse):
                for run in attacks(variants[better]):
                    rival = max((variants[method] for method in worse), key=lambda one: np.mean(one.robust(*run)))
                    robust = _difference(*_paired(variants[better], rival, run), ("holds", "fails", "open"))
                    clean = _difference(*_paired(variants[better], rival))
                    rows.append(f"| {claim} | {name} | {run} | {clean} | {robust} |")
    return _section(
        [
            "## The claims\n",
            *_DIFFERENCES,
            "A claim holds where the whole interval is above zero and so is every seed, fails where all are below, and is",
            "open otherwise.\n",
            "| claim | setting | attack | clean | interval | robust | interval | |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
        ],
        rows,
    )


def _choices(settings):
    """What each change to a method's own recipe does; nothing, where no cell has that recipe unchanged."""
    rows = []
    for name, variants in settings.items():
        for own in (variant for variant in variants if variant.name == variant.method):
            run = Run(_STRONGEST, own.setting["epsilon"])
            for changed in variants:
                if changed.method == own.method and changed is not own:
                    change = changed.name.removeprefix(f"{own.name}-")
                    differences = (
                        _difference(*_paired(changed, own)),
                        _difference(*_paired(changed, own, run), ("better", "worse", "alike")),
                    )
                    rows.append(f"| {name} | {own.name} | {change} | {' | '.join(differences)} |")
    return _section(
        [
            "## The choices\n",
            "What a change to a method's own recipe does to clean accuracy and to robust accuracy at the setting's ε",
            f"({_STRONGEST}).",
            *_DIFFERENCES,
            "",
            "| setting | method | change | clean | interval | robust | interval | |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
        ],
        rows,
    )


def _section(head, rows):
    """A list of one text, or of none where there are no rows."""
    return ["\n".join([*head, *rows]) + "\n"] if rows else []


def _paired(better, worse, run=None):
    """`([seeds, examples], [seeds, examples])`: whether each is robust to a run, or correct without one."""
    seeds = sorted(set(better.reports) & set(worse.reports))
    return tuple(
        np.array([one.reports[seed].robust[run] if run else one.reports[seed].correct for seed in seeds], float)
        for one in (better, worse)
    )


def _difference(better, worse, verdicts=None):
    """Mean, interval and verdict, if there are verdicts, as cells of a table, of two `[seeds, examples]`."""
    by_seed = 100 * np.mean(better - worse, axis=1)
    by_example = 100 * np.mean(better - worse, axis=0)
    mean, error = np.mean(by_example), _Z * np.std(by_example, ddof=1) / np.sqrt(len(by_example))
    spread = f" ({np.min(by_seed):+.1f} to {np.max(by_seed):+.1f})" if len(by_seed) > 1 else ""
    cells = [f"{mean:+.1f}{spread}", f"{mean - error:+.1f} to {mean + error:+.1f}"]
    if verdicts:
        holds, fails = min(mean - error, *by_seed) > 0, max(mean + error, *by_seed) < 0
        cells.append(verdicts[0] if holds else verdicts[1] if fails else verdicts[2])
    return " | ".join(cells)


def _table(name, variants, chosen):
    runs = variants[0].runs()
    headers = ["method", "seeds", "clean", *(str(run) for run in runs), "worst case"]
    lines = [f"### {name}\n", "| " + " | ".join(headers) + " |", "| --- " + "| ---: " * (len(headers) - 1) + "|"]
    for variant in variants:
        label = f"**{variant.name}**" if any(variant is one for one in chosen) else variant.name
        seeds = str(len(variant.results))
        cells = [seeds, _percent(variant.clean()), *(_cell(variant, run) for run in runs), _percent(variant.worst())]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    epsilon = variants[0].setting["epsilon"]
    notes = f"\nBold: the weight that was chosen. The worst case is over all attacks up to {epsilon:g} px."
    if any(run.attack in ("ADef", "StAdv") for run in runs):
        notes += " In brackets, of attacks of no fixed size: the median pixel's displacement, and the roughness."
    return "\n".join(lines) + "\n" + notes + "\n"


def _cell(variant, run):
    robust = f"{np.mean(variant.robust(*run)):.3f}"
    if run.attack not in ("ADef", "StAdv"):
        return robust
    return f"{robust} ({variant.measure('median', *run):.2f}, {variant.measure('roughness', *run):.2f} px)"


def _percent(values):
    """Mean and interval of `[examples]`."""
    interval = accuracy(np.arange(len(values)) < round(np.sum(values)))
    return f"{np.mean(values):.3f} ({interval.low:.3f}–{interval.high:.3f})"


def _bounds_table(chosen):
    lines = [
        "## The bounds\n",
        "First-order bounds of the rise of the loss at the setting's ε (`fr.first_order_bounds`), and the rise that",
        f"{_STRONGEST} measures; medians over attacked images.\n",
        "![Measured rise over each bound](bounds.png)\n",
        "| setting | method | rise | flow bound | input bound | input / flow | rise above flow bound | above input bound |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, variants in chosen.items():
        for method, variant in variants.items():
            bounds = variant.bounds()
            medians = [f"{np.median(bounds[key]):.2g}" for key in ("rise", "flow", "input")]
            steep = bounds["flow"] > 0
            ratio = f"{np.median(bounds['input'][steep] / bounds['flow'][steep]):.1f}" if steep.any() else ""
            above = [f"{np.mean(bounds['rise'] > bounds[key]):.1%}" for key in ("flow", "input")]
            lines.append("| " + " | ".join([name, method, *medians, ratio, *above]) + " |")
    return "\n".join(lines) + "\n"


def _draw_curves(settings, path):
    """Robust against clean accuracy: one line a method, along its weights."""
    with _panels(settings, path) as panels:
        for axes, variants in panels:
            others = itertools.cycle(_OTHER_COLORS)
            for family in dict.fromkeys(variant.family for variant in variants):
                points = [(np.mean(v.clean()), np.mean(v.worst())) for v in variants if v.family == family]
                color = _COLORS.get(family) or next(others)
                axes.plot(*zip(*points), marker="o", color=color, label=family.replace("_", " "))
            epsilon = variants[0].setting["epsilon"]
            axes.set(xlabel="clean accuracy", ylabel=f"worst case up to {epsilon:g} px")


def _draw_radii(chosen, path):
    """Accuracy under the strongest attack against ε, for each method's chosen weight."""
    with _panels(chosen, path) as panels:
        for axes, variants in panels:
            for method, variant in variants.items():
                runs = [run for run in variant.runs() if run.attack == _STRONGEST]
                radii = [0, *(run.epsilon for run in runs)]
                values = [np.mean(variant.clean()), *(np.mean(variant.robust(*run)) for run in runs)]
                axes.plot(radii, values, marker="o", color=_COLORS[method], label=variant.name.replace("_", " "))
            axes.set(xlabel="ε (pixels)", ylabel=f"accuracy under {_STRONGEST}", ylim=(0, 1.02))


def _draw_bounds(chosen, path):
    """How near the measured rise comes to each bound, before and after regularization."""
    with _panels(chosen, path) as panels:
        for axes, variants in panels:
            for method in ("plain", "flow_gradient"):
                if method in variants:
                    _draw_ratios(axes, method, variants[method].bounds())
            axes.axvline(1, color="gray", linewidth=1)
            axes.set(xlabel="measured rise / bound", ylabel="part of the images", xlim=(0.1, 1e5), ylim=(0, 1))


def _draw_ratios(axes, method, bounds):
    """The part of the images below each ratio of the measured rise to a bound."""
    for kind, style in (("flow", "-"), ("input", ":")):
        ratios = np.sort(bounds["rise"] / np.maximum(bounds[kind], 1e-9))
        parts = np.arange(1, len(ratios) + 1) / len(ratios)
        label = f"{method.replace('_', ' ')}: {kind} bound"
        axes.semilogx(ratios, parts, style, color=_COLORS[method], label=label)


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
    figure.savefig(path, dpi=110)
    plt.close(figure)

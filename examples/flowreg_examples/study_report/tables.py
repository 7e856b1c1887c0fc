"""The tables of a study: its settings, the accuracies under every attack, and the first-order bounds."""

import numpy as np

from flowreg_examples.study_report.variants import CLEAN_COST, STRONGEST
from keras_flowreg.evaluation import accuracy

TITLE = "# Results of the study\n"
# Attacks of no fixed size: their flows' size is told.
_MINIMAL_ATTACKS = ("ADef", "StAdv")


def introduction(settings):
    """What the tables show, and the settings."""
    lines = [
        TITLE,
        "Written by `examples/reproduce.py --report` from the JSON files beside it, which hold every setting, seed and",
        "version. Robust accuracy: classified correctly clean, and under the attack. ε is the largest component of a",
        "pixel's displacement, in pixels. Attacks start at the first test image. The interval is Clopper–Pearson's at",
        f"95 %. Weights were chosen by {STRONGEST} on held-out training images: the most robust of those that cost no",
        f"more than {CLEAN_COST:.0%} of clean accuracy there; test images chose nothing.",
        *_epochs(settings),
        "",
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


def _epochs(settings):
    """Which epoch's weights were kept."""
    chosen = {one for variants in settings.values() for variant in variants for one in variant.has_chosen_epoch()}
    if True in chosen:
        yield "Of the epochs after the warm-up that with the best mean of clean accuracy and accuracy under FlowPGD in"
        yield "5 steps there was kept."
    if False in chosen:
        yield "Of trainings that looked at no held-out image the last epoch was kept."


def results(name, variants, chosen):
    """Every variant of a setting under every attack; those with a chosen weight are bold."""
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
    if any(run.attack in _MINIMAL_ATTACKS for run in runs):
        notes += " In brackets, of attacks of no fixed size: the median pixel's displacement, and the roughness."
    return "\n".join(lines) + "\n" + notes + "\n"


def bounds(chosen):
    """How far the measured rise of the loss is from each first-order bound."""
    lines = [
        "## The bounds\n",
        "First-order bounds of the rise of the loss at the setting's ε (`fr.first_order_bounds`), and the rise that",
        f"{STRONGEST} measures; medians over attacked images.\n",
        "![Measured rise over each bound](bounds.png)\n",
        "| setting | method | rise | flow bound | input bound | input / flow | rise above flow bound | above input bound |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, variants in chosen.items():
        for family, variant in variants.items():
            lines.append("| " + " | ".join([name, family, *_bounds_cells(variant.bounds())]) + " |")
    return "\n".join(lines) + "\n"


def _bounds_cells(bounds):
    medians = [f"{np.median(bounds[key]):.2g}" for key in ("rise", "flow", "input")]
    steep = bounds["flow"] > 0
    ratio = f"{np.median(bounds['input'][steep] / bounds['flow'][steep]):.1f}" if steep.any() else ""
    above = [f"{np.mean(bounds['rise'] > bounds[key]):.1%}" for key in ("flow", "input")]
    return [*medians, ratio, *above]


def _cell(variant, run):
    robust = f"{np.mean(variant.robust(*run)):.3f}"
    if run.attack not in _MINIMAL_ATTACKS:
        return robust
    return f"{robust} ({variant.measure('median', *run):.2f}, {variant.measure('roughness', *run):.2f} px)"


def _percent(values):
    """Mean and interval of `[examples]`."""
    interval = accuracy(np.arange(len(values)) < round(np.sum(values)))
    return f"{np.mean(values):.3f} ({interval.low:.3f}–{interval.high:.3f})"

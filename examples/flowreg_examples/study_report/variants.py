"""The results of a study: read from their files, one variant a way to train, and a weight chosen for each family."""

import collections
import glob
import os
import re

import numpy as np

import keras_flowreg as fr
from keras_flowreg.commands import outputs
from keras_flowreg.evaluation import Run

# The attack that weights are chosen by.
STRONGEST = "FlowFrankWolfe"
# A weight is chosen among those that cost no more clean accuracy than this, on validation images.
CLEAN_COST = 0.05
# What a variant's name has, and what the report calls it: how the authors take the flow gradient, and a shorter training.
_SHORT_NAMES = {
    "-random_start=0.155-gradient_at=identity-lattice=forward": "-authors",
    "-epochs=40-learning_rate=0.1-milestones=none-clip_norm=1": "-cosine",
}
AUTHORS = "flow_gradient-authors"
# What a variant's name has of the shorter training, which is always with swish.
COSINE = "activation=swish-cosine"
# Training on one step to the worst flow of the linearized model, as a variant's name has it.
ONE_STEP = "deformation=FlowFrankWolfe-steps=1"
# Variants that differ in their weight only. In these a weight is chosen.
FAMILIES = (
    "plain",
    f"plain-{COSINE}",
    "flow_gradient",
    AUTHORS,
    "flow_gradient-activation=swish",
    f"flow_gradient-{COSINE}",
    "input_gradient",
    f"input_gradient-{COSINE}",
    "flow_consistency",
    "flow_consistency-activation=swish",
    f"flow_consistency-{COSINE}",
    "deformation_training",
    f"deformation_training-{ONE_STEP}",
    "deformation_training-activation=swish",
    f"deformation_training-activation=swish-{ONE_STEP}",
    f"deformation_training-{COSINE}-{ONE_STEP}",
    "intensity_training",
    f"intensity_training-{COSINE}",
    "flow_gradient+deformation_training",
    f"flow_gradient+deformation_training-{ONE_STEP}",
    f"flow_gradient+deformation_training-activation=swish-{ONE_STEP}",
    f"flow_gradient+deformation_training-{COSINE}-{ONE_STEP}",
)

_PARTS = {"variant", "setting", "recipe", "seed", "history", "bounds", "validation", "test"}  # of a result


class Variant:
    """All seeds of one way to train in one setting.

    Args:
      results: what `study.run` returned, for each seed.
    """

    def __init__(self, results):
        self.results = {result["seed"]: result for result in results}
        first = results[0]
        self.name, self.setting = _short(first["variant"]), first["setting"]
        self.method, self.weight = first["recipe"]["method"], first["recipe"]["weight"]
        self.reports = {seed: _report(result, "test") for seed, result in self.results.items()}

    @property
    def family(self):
        """The name without the weight: what a curve connects."""
        return re.sub("-weight=[^-]*", "", self.name)

    def has_chosen_epoch(self):
        """For each seed, whether its epoch was chosen on validation images; else it is the last."""
        return ["val_accuracy" in result["history"][-1] for result in self.results.values()]

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
        """One of a report's measures, over the seeds."""
        return np.mean([report.measures[Run(attack, epsilon)][name] for report in self.reports.values()])

    def validation(self):
        """Clean accuracy, and robust accuracy at the setting's radius, on validation images."""
        reports = [_report(result, "validation") for result in self.results.values()]
        run = Run(STRONGEST, self.setting["epsilon"])
        return np.mean([r.correct for r in reports]), np.mean([r.robust[run] for r in reports])

    def runs(self):
        """Every attack at every radius."""
        return list(next(iter(self.reports.values())).robust)

    def bounds(self):
        """`{"flow", "input", "rise": [examples of all seeds]}`."""
        return {
            name: np.concatenate([result["bounds"][name] for result in self.results.values()])
            for name in ("flow", "input", "rise")
        }


def read(folder):
    """`{setting: [Variant, ...]}` of the JSON files in a folder, in the order of methods and weights."""
    by_setting = collections.defaultdict(lambda: collections.defaultdict(list))
    for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
        result = outputs.read_json(path)
        if not set(result) >= _PARTS:
            raise ValueError(f"Expected {path} to be a result of reproduce.py. Received {sorted(result)[:5]}.")
        name = f"{result['setting']['dataset']}-{result['setting']['architecture']}"
        by_setting[name][result["variant"]].append(result)
    return {name: sorted(map(Variant, variants.values()), key=_order) for name, variants in by_setting.items()}


def choose(variants):
    """`{family: Variant}`: by robust accuracy on validation images, among those that stay accurate there."""
    families = collections.defaultdict(list)
    for variant in variants:
        if variant.family in FAMILIES:
            families[variant.family].append(variant)
    least = families["plain"][0].validation()[0] - CLEAN_COST if families["plain"] else 0.0
    return {family: _most_robust(candidates, least) for family, candidates in families.items() if candidates}


def _short(name):
    for long, short in _SHORT_NAMES.items():
        name = name.replace(long, short)
    return name


def _order(variant):
    return FAMILIES.index(variant.method), variant.family, variant.weight


def _most_robust(variants, least_clean):
    affordable = [variant for variant in variants if variant.validation()[0] >= least_clean]
    if affordable:
        return max(affordable, key=lambda variant: variant.validation()[1])
    return max(variants, key=lambda variant: variant.validation()[0])


def _report(result, split):
    return fr.RobustnessReport.from_dict(result[split])

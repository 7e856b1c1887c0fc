"""The paper's claims, and the choices that the recipes rest on, each with the difference that decides it."""

import numpy as np

from flowreg_examples.study_report.differences import EXPLANATION, clean_difference, robust_difference
from flowreg_examples.study_report.variants import AUTHORS, COSINE, ONE_STEP, STRONGEST
from keras_flowreg.evaluation import Run

_AUTHORS = "authors' K=100"


def _seen(variant):
    """Flows within the radius: the authors' attack and the strongest."""
    epsilon = variant.setting["epsilon"]
    wanted = ((STRONGEST, epsilon), ("AutoDeform", epsilon))
    return [run for run in variant.runs() if run.attack == _AUTHORS or run in wanted]


def _of_another_kind(variant):
    """Attacks that are no steps along the gradient of a flow within the radius."""
    epsilon = variant.setting["epsilon"]
    wanted = ("RotationTranslation", "StAdv", "FlowSquare")
    return [run for run in variant.runs() if run.attack in wanted and run.epsilon in (None, epsilon)]


def _every_attack(variant):
    return [*_seen(variant), *_of_another_kind(variant)]


def _unseen_in_training_on_flow_pgd(variant):
    return [*_of_another_kind(variant), Run(STRONGEST, variant.setting["epsilon"])]


def _without_steps_along_the_gradient(variant):
    """Attacks that optimize a smallest flow, or take no gradient: those by which the paper first makes its third claim."""
    epsilon = variant.setting["epsilon"]
    wanted = ("StAdv", "ADef", "FlowSquare", "FlowSPSA", "RotationTranslation")
    return [run for run in variant.runs() if run.attack in wanted and run.epsilon in (None, epsilon)]


def _claims(form, flow, deformation, both, *, rivals=""):
    """Each claim, the family that it puts above others, those, and the attacks that decide.

    `rivals` is what the names of the other methods have beside the method.
    """
    ending = f", {form}" if form else ""
    plain, input_gradient, noise = (f"{method}{rivals}" for method in ("plain", "input_gradient", "intensity_training"))
    unseen = _of_another_kind if STRONGEST in deformation else _unseen_in_training_on_flow_pgd
    return [
        (f"flow gradient over plain training{ending}", flow, (plain,), _seen),
        (f"1. flow gradient over input gradient{ending}", flow, (input_gradient,), _seen),
        (f"2. flow gradient over adversarial training{ending}", flow, (noise,), _seen),
        (f"2. flow gradient over deformation training{ending}", flow, (deformation,), _seen),
        (
            f"3. flow gradient over adversarial training, other kinds of attack{ending}",
            flow,
            (noise,),
            _without_steps_along_the_gradient,
        ),
        (f"3. flow gradient over deformation training, unseen attacks{ending}", flow, (deformation,), unseen),
        (f"4. both together over either{ending}", both, (flow, deformation), _seen),
    ]


_CLAIMS = (
    *_claims("", "flow_gradient", "deformation_training", "flow_gradient+deformation_training"),
    *_claims(
        "one step",
        "flow_gradient",
        f"deformation_training-{ONE_STEP}",
        f"flow_gradient+deformation_training-{ONE_STEP}",
    ),
    *_claims("the authors' form", AUTHORS, "deformation_training", None),
    *(
        (f"flow consistency over {rival}{ending}", f"flow_consistency{form}", (family,), _every_attack)
        for form, ending in (("", ""), ("-activation=swish", ", swish"), (f"-{COSINE}", ", swish along a cosine"))
        for rival, family in (
            ("flow gradient", f"flow_gradient{form}"),
            ("deformation training", f"deformation_training{form}"),
            ("deformation training in one step", f"deformation_training{form}-{ONE_STEP}"),
        )
    ),
    ("flow gradient with swish over ReLU", "flow_gradient-activation=swish", ("flow_gradient",), _seen),
    ("flow gradient with swish over the authors' form", "flow_gradient-activation=swish", (AUTHORS,), _seen),
    *(
        (
            f"{method} with swish, 40 epochs along a cosine over the authors' schedule",
            f"{family}-{COSINE}{steps}",
            (f"{family}-activation=swish{steps}",),
            _every_attack,
        )
        for method, family, steps in (
            ("flow gradient", "flow_gradient", ""),
            ("deformation training", "deformation_training", f"-{ONE_STEP}"),
        )
    ),
    *_claims("swish", "flow_gradient-activation=swish", "deformation_training-activation=swish", None),
    *_claims(
        "swish, one step",
        "flow_gradient-activation=swish",
        f"deformation_training-activation=swish-{ONE_STEP}",
        f"flow_gradient+deformation_training-activation=swish-{ONE_STEP}",
    ),
    *_claims(
        "swish along a cosine, one step",
        f"flow_gradient-{COSINE}",
        f"deformation_training-{COSINE}-{ONE_STEP}",
        f"flow_gradient+deformation_training-{COSINE}-{ONE_STEP}",
        rivals=f"-{COSINE}",
    ),
)


def claims(chosen):
    """The section on the claims, in a list; an empty one if no claim can be tested."""
    rows, told = [], set()
    for claim, better, worse, attacks in _CLAIMS:
        is_new = (better, worse, attacks) not in told
        told.add((better, worse, attacks))
        for name, variants in chosen.items():
            if is_new and better in variants and all(family in variants for family in worse):
                rivals = [variants[family] for family in worse]
                for run in attacks(variants[better]):
                    rows.append(f"| {claim} | {name} | {run} | {_compared(variants[better], rivals, run)} |")
    return _section(
        [
            "## The claims\n",
            *EXPLANATION,
            "A claim holds where the whole interval is above zero and so is every seed, fails where all are below, and is",
            "open otherwise.\n",
            "| claim | setting | attack | clean | interval | robust | interval | |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
        ],
        rows,
    )


def _compared(variant, rivals, run):
    """What a variant has over the most robust of its rivals."""
    rival = max(rivals, key=lambda one: np.mean(one.robust(*run)))
    robust = robust_difference(variant, rival, run, verdicts=("holds", "fails", "open"))
    return f"{clean_difference(variant, rival)} | {robust}"


def choices(settings):
    """The section on changes to a method's own recipe, in a list; an empty one if no cell has that recipe unchanged."""
    rows = []
    for name, variants in settings.items():
        for own in (variant for variant in variants if variant.name == variant.method):
            for changed in variants:
                if changed.method == own.method and changed is not own:
                    change = changed.name.removeprefix(f"{own.name}-")
                    rows.append(f"| {name} | {own.name} | {change} | {_changed(changed, own)} |")
    return _section(
        [
            "## The choices\n",
            "What a change to a method's own recipe does to clean accuracy and to robust accuracy at the setting's ε",
            f"({STRONGEST}).",
            *EXPLANATION,
            "",
            "| setting | method | change | clean | interval | robust | interval | |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
        ],
        rows,
    )


def _changed(variant, own):
    run = Run(STRONGEST, own.setting["epsilon"])
    robust = robust_difference(variant, own, run, verdicts=("better", "worse", "alike"))
    return f"{clean_difference(variant, own)} | {robust}"


def _section(head, rows):
    return ["\n".join([*head, *rows]) + "\n"] if rows else []

"""The robustness report: every attack at every radius, example by example, and how far to trust it."""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional, Union

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.attacks import Attack, AutoDeform
from keras_flowreg.attacks.runner import has_gradient
from keras_flowreg.batches import Batches, Data
from keras_flowreg.descriptions import described_loss
from keras_flowreg.evaluation import checks
from keras_flowreg.evaluation.certified import Certifier, contradictions, radii
from keras_flowreg.evaluation.identity import identify
from keras_flowreg.evaluation.journal import Journal
from keras_flowreg.evaluation.report import RobustnessReport
from keras_flowreg.evaluation.results import Finding, Run
from keras_flowreg.evaluation.shards import expect_shard
from keras_flowreg.evaluation.work import Search, Work
from keras_flowreg.ops.labels import expect_classes
from keras_flowreg.ops.losses import compiled_loss, resolve_loss
from keras_flowreg.ops.matching import expect_images_of, expect_one_output, expect_within_images
from keras_flowreg.ops.validation import (
    as_images,
    expect_boolean,
    expect_in_range,
    expect_instance,
    expect_not_negative,
    expect_seed,
    expect_value_range,
)
from keras_flowreg.types import KerasModel, Loss, ValueRange


def evaluate_robustness(
    model: KerasModel,
    dataset: Data,
    attacks: Optional[Union[Attack, Sequence[Attack], Mapping[str, Attack]]] = None,
    epsilons: Union[Sequence[float], Mapping[str, Sequence[float]]] = (0.1, 0.2, 0.4),
    *,
    loss: Optional[Loss] = None,
    examples: Optional[int] = None,
    value_range: ValueRange = (0.0, 1.0),
    seed: int = 0,
    resume_from: Optional[Union[str, os.PathLike]] = None,
    shard: Optional[tuple[int, int]] = None,
    check: bool = True,
    certify: bool = False,
    verbose: int = 1,
) -> RobustnessReport:
    """Measures how far deformations fool a classifier, and whether the measurement can be trusted.

    Every attack runs at every radius on every example. In the worst case an example is robust at a radius if the model
    classifies it correctly, and no attack of that radius or of a smaller one fools the model: the smaller ball lies in
    the larger.

    A model without a gradient, such as one that rounds, is attacked by `AutoDeform` without those of its members that
    need one, and the report says so.

    Args:
      model: a Keras classifier, from images `[batch, height, width, channels]` to logits `[batch, classes]`.
      dataset: a pair of arrays, `(images, labels)`, or batches of them in any form that `fit` takes; see
        `batches.Batches`. Weights beside the labels are not used. Every example needs a class: leave out those whose label
        the loss ignores.
      attacks: one `Attack`, a list of them, or a dictionary of them by the name they have in the report; `None` for
        `AutoDeform`. An attack with a radius is run at each of `epsilons`, and its own radius is not used. One
        without, such as `RotationTranslation`, is run once.
      epsilons: the radii, in pixels, not negative; or a dictionary of them by an attack's name.
      loss: the loss that attacks raise which have none of their own; `None` for the one that the model is compiled with.
      examples: how many examples to use, from the first; `None` for all. A generator, or data without an end, needs it.
      value_range: the least and the greatest value of an image, for `AutoDeform` and the checks. Other attacks have
        their own.
      seed: a whole number, which decides what is random in `AutoDeform` and the checks. Other attacks have their own.
      resume_from: the path of a file for partial results. It is written after each proof and attack of a batch. What it
        already holds is not computed again. It belongs to one model, one list of attacks, one data set and one version of
        this library, and another file is left alone.
      shard: `(2, 8)` attacks the second of eight parts of the batches alone, and the report is of those. Give each part a
        `resume_from` of its own. `evaluation.merge_partial_results` makes one file of them, with which the evaluation
        without `shard` has nothing left to attack.
      check: whether to check that the report can be trusted; see `RobustnessReport.findings`.
      certify: whether to prove, too, at each of the attacks' radii, which examples no flow can fool (`certify`, norm
        `"linf"`). The true robust accuracy lies between what is certified and what no attack fools. Proofs come first.
        Attacks by flows of a radius then leave out what is certified there, but for one in 16 of it in each batch, drawn
        by `seed`. What they leave out is robust.
      verbose: 1 for one progress bar, over all proofs and attacks, with the time left; 0 for silence.

    Returns:
      `RobustnessReport`.

    Raises:
      ValueError: if an argument is out of its range; if an attack is targeted, or needs a gradient that the model does
        not have; if the model is to be certified and has a layer without a rule for bounds; if the data set, or its shard,
        is empty, has no end, or is not batches of images and labels; if a loss is NaN; or if `resume_from` holds anything
        else than this evaluation's results.
      TypeError: if an attack is not an `Attack`, or `model` not a Keras model.
      OSError: if `resume_from` cannot be written.

    ```python
    attacks = [fr.attacks.FlowPGD(epsilon=0.4, steps=5), fr.attacks.RandomFlow(epsilon=0.4)]
    report = fr.evaluate_robustness(model, (images, labels), attacks, epsilons=[0.2, 0.4])
    print(report)
    ```
    """
    expect_instance("model", model, keras.Model)
    expect_boolean("check", check)
    expect_boolean("certify", certify)
    part = expect_shard(shard)
    loss, value_range = resolve_loss(loss, compiled_loss(model)), expect_value_range(value_range)
    named = _named([AutoDeform(0.1, value_range=value_range, seed=seed)] if attacks is None else attacks)
    runs = {run: Search(attack, resolve_loss(attack.loss, loss)) for run, attack in _runs(named, epsilons).items()}
    seed = expect_seed(seed)
    batches = Batches(dataset, "dataset", examples=examples, read_once=True)
    first = batches.first()
    images = as_images(first[0])
    _expect_displacements_within(runs, images)
    expect_images_of(model, images)
    _expect_values_of(runs, images, value_range)
    if check:
        expect_in_range(images, value_range)
    # A model has no weights before it has seen an image.
    expect_classes(expect_one_output(model(images[:1], training=False)))
    if batches.can_be_read_again:
        _expect_all(batches, part, model, runs)
    findings = [] if has_gradient(model, images) else _without_gradient(runs)
    certifier = Certifier(model, radii(search.attack for search in runs.values()) if certify else (), seed)
    certifier.try_one(*first)
    settings = {
        **_settings(model, loss, runs, examples, value_range, seed, first[0].shape[1:]),
        **certifier.settings(),
    }
    of_this_version = {**settings, "keras_flowreg": compat.versions()["keras_flowreg"]}
    with contextlib.closing(Journal(resume_from, of_this_version)) as journal:
        if check:  # Before the attacks: an error should not come after hours.
            findings.extend(checks.run(model, first, loss=loss, value_range=value_range, seed=seed))
        records, certified = Work(model, runs, certifier, journal).done(batches, part, verbose)
    if part.parts > 1:
        settings["shard"] = str(part)
    others = (run.attack for run, search in runs.items() if run.epsilon is not None and not radii([search.attack]))
    report = RobustnessReport.from_records(settings, compat.versions(), records, certified, others)
    report.findings.extend(findings + (checks.look_at(report) if check else []))
    report.findings.extend(contradictions(report, {run: search.attack for run, search in runs.items()}))
    return report


def _named(attacks):
    """The attacks by their names; an error for what is no attack, or says nothing of robustness."""
    if not isinstance(attacks, Mapping):
        attacks = list(attacks) if isinstance(attacks, (list, tuple)) else [attacks]
        names = [getattr(attack, "name", repr(attack)) for attack in attacks]
        attacks = {
            name if names.count(name) == 1 else f"{name} {names[: number + 1].count(name)}": attack
            for number, (name, attack) in enumerate(zip(names, attacks))
        }
    if not attacks:
        raise ValueError("Expected at least one attack. Received none.")
    for name, attack in attacks.items():
        if not isinstance(name, str):
            raise TypeError(f"Expected the attacks' names to be strings. Received {name!r}.")
        if not isinstance(attack, Attack):
            raise TypeError(f"Expected every attack to be a keras_flowreg Attack. Received {attack!r} as {name!r}.")
        if attack.targeted:
            raise ValueError(
                "Expected attacks that are not targeted: a report takes labels for the right classes, and a targeted "
                f"attack for those to lead the model to. Received {name}, which is targeted."
            )
    return attacks


def _runs(attacks, epsilons):
    """`{Run: attack}`: each attack at each radius, or once if it has none."""
    runs = {}
    unknown = set(epsilons) - set(attacks) if isinstance(epsilons, Mapping) else None
    if unknown:
        raise ValueError(
            f"Expected `epsilons` of {', '.join(attacks)}. Received those of {', '.join(map(str, unknown))}."
        )
    for name, attack in attacks.items():
        if attack.epsilon is None:
            runs[Run(name, None)] = attack
            continue
        radii = epsilons.get(name, ()) if isinstance(epsilons, Mapping) else epsilons
        if isinstance(radii, (str, bytes)) or not isinstance(radii, Iterable):
            raise ValueError(f"Expected `epsilons` to be a list of numbers. Received {radii!r}.")
        radii = sorted({expect_not_negative("epsilons", epsilon) for epsilon in radii})
        if not radii:
            raise ValueError(f"Expected at least one of `epsilons` for {name}, which has a radius. Received none.")
        runs.update({Run(name, epsilon): attack.replace(epsilon=epsilon) for epsilon in radii})
    return runs


def _without_gradient(runs):
    """What to say of a model without a gradient; an error for attacks that need one."""
    attacks = {run.attack: search.attack for run, search in runs.items()}
    unable = [name for name, attack in attacks.items() if attack.needs_gradient]
    if unable:
        raise ValueError(
            "Expected attacks that need no gradient, for a model without one: it may round, or call something else "
            f"than TensorFlow. Received {', '.join(unable)}. Use AutoDeform, FlowSquare, FlowSPSA, RandomFlow or "
            "RotationTranslation."
        )
    partial = [name for name, attack in attacks.items() if isinstance(attack, AutoDeform)]
    return [Finding("every attack runs in full", _LEFT_OUT.format(name)) for name in partial]


_LEFT_OUT = (
    "{} has left out its members by gradient, because the model has no gradient with respect to its images. What is "
    "left are random flows and a random search, which find less."
)


def _expect_displacements_within(runs, images):
    """Checks by the size of the images that radii are in pixels."""
    for search in runs.values():
        for name, pixels in search.attack.displacements().items():
            expect_within_images(name, pixels, images)


def _expect_values_of(runs, images, value_range):
    """Checks that images which the report takes are such as each attack takes."""
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    for run, search in runs.items():
        own = search.attack.value_range
        if value_range[0] <= low and high <= value_range[1] and not (own[0] <= low and high <= own[1]):
            raise ValueError(
                f"Expected attacks on images with values from {value_range[0]:g} to {value_range[1]:g}, as `value_range` says "
                f"of this report. Received {run.attack} with value_range={own}: construct it with that of the report."
            )


def _expect_all(batches, part, model, runs):
    """Checks every batch of the part for what an attack would stop at, and that there is one."""
    taken = 0
    for number, batch in enumerate(batches):
        if part.takes(number):
            taken += 1
            for search in runs.values():
                search.expect_examples(model, *batch)
    part.expect_batches(taken)


def _settings(model, loss, runs, examples, value_range, seed, image_shape):
    """All that decides the numbers."""
    return {
        **identify(model, image_shape),
        **described_loss(loss),
        "attacks": [
            {"attack": run.attack, **search.attack.settings(), **described_loss(search.loss)}
            for run, search in runs.items()
        ],
        "examples": examples,
        "value_range": list(value_range),
        "seed": int(seed),
    }

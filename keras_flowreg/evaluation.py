"""The robustness report: every attack at every radius, example by example, and how far to trust it."""

import math
import time
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg import checks, compat
from keras_flowreg.attacks import Attack, AutoDeform
from keras_flowreg.journal import Journal, digest
from keras_flowreg.ops.losses import name_of, resolve_loss
from keras_flowreg.ops.validation import expect_not_negative, expect_positive_integer
from keras_flowreg.report import RobustnessReport, Run

_BATCH_SIZE = 128  # for arrays


def evaluate_robustness(
    model,
    dataset,
    attacks=None,
    epsilons=(0.1, 0.2, 0.4),
    *,
    loss=None,
    examples=None,
    value_range=(0.0, 1.0),
    seed=0,
    resume_from=None,
    check=True,
    verbose=1,
):
    """Measures how far deformations fool a classifier, and whether the measurement can be trusted.

    Every attack is run at every radius on every example. An example counts as robust at a radius if it is
    classified correctly as it is, and no attack of that radius or a smaller one breaks it: the smaller ball
    lies in the larger.

    Args:
      model: a Keras classifier, images to logits.
      dataset: batches of `(images, labels)`: a `tf.data.Dataset` or any iterable that gives the same batches
        each time; or a pair of arrays, `(images, labels)`.
      attacks: `Attack` layers, or a dictionary of them by the name they have in the report; `None` for
        `AutoDeform`. One with a radius is run at each of `epsilons` (its own is not used); one without, such
        as `RotationTranslation`, once.
      epsilons: the radii, in pixels, not negative; or a dictionary of them by an attack's name.
      loss: of the model, where it is not compiled with one.
      examples: how many examples to use, from the first; `None` for all.
      value_range: the least and the greatest value of an image, for `AutoDeform` and the checks.
      seed: of the default attack and the checks; each attack has its own.
      resume_from: path of a file for partial results. It is written after every batch; if it is there, what
        it holds is not computed again. It belongs to one model, one list of attacks and one data set.
      check: whether to run `checks` on the first batch and on the results.
      verbose: 1 for a progress bar, 0 for silence.

    Returns:
      `RobustnessReport`.

    Raises:
      ValueError: if an argument is out of its range, the data set is empty or not batches of images and
        labels, or `resume_from` holds another evaluation's results.
      TypeError: if an attack is not an `Attack`.
    """
    loss = resolve_loss(loss, model)
    runs = _runs(_named(attacks, model, loss, value_range, seed), epsilons)
    examples = examples if examples is None else expect_positive_integer("examples", examples)
    first = next(_batches(dataset, examples), None)
    if first is None:
        raise ValueError("Expected a data set with at least one batch. Received none.")
    model(first[0][:1], training=False)  # A model has no weights before it has seen an image.
    settings = _settings(model, loss, runs, examples, value_range, seed)
    journal = Journal(resume_from, settings)
    results = {run: [] for run in runs}
    progress = keras.utils.Progbar(_size(dataset, examples, len(first[0])), unit_name="batch", verbose=verbose)
    for number, (images, labels) in enumerate(_batches(dataset, examples)):
        for run, attack in runs.items():
            results[run].append(_attacked(journal, run, number, attack, images, labels))
        progress.update(number + 1, _so_far(results))
    report = RobustnessReport.from_results(settings, compat.versions(), results)
    if check:
        report.findings.extend(checks.run(model, loss, first, value_range, seed, report))
    return report


def _named(attacks, model, loss, value_range, seed):
    """The attacks by their names."""
    if attacks is None:
        attacks = [AutoDeform(model, 0.1, loss=loss, value_range=value_range, seed=seed)]
    if not isinstance(attacks, Mapping):
        attacks = list(attacks) if isinstance(attacks, (list, tuple)) else [attacks]
        names = [getattr(attack, "label", repr(attack)) for attack in attacks]
        attacks = {
            name if names.count(name) == 1 else f"{name} {names[: number + 1].count(name)}": attack
            for number, (name, attack) in enumerate(zip(names, attacks))
        }
    if not attacks:
        raise ValueError("Expected at least one attack. Received none.")
    for name, attack in attacks.items():
        if not isinstance(attack, Attack):
            raise TypeError(f"Expected every attack to be a keras_flowreg Attack. Received {attack!r} as {name!r}.")
    return attacks


def _runs(attacks, epsilons):
    """`{Run: attack}`: each attack at each radius, or once if it has none."""
    runs = {}
    for name, attack in attacks.items():
        if attack.epsilon is None:
            runs[Run(name, None)] = attack
            continue
        radii = epsilons.get(name, ()) if isinstance(epsilons, Mapping) else epsilons
        radii = sorted({expect_not_negative("epsilons", epsilon) for epsilon in radii})
        if not radii:
            raise ValueError(f"Expected at least one of `epsilons` for {name}, which has a radius. Received none.")
        runs.update({Run(name, epsilon): attack.at(epsilon) for epsilon in radii})
    return runs


def _settings(model, loss, runs, examples, value_range, seed):
    """All that decides the numbers."""
    return {
        "weights": digest(model.get_weights()),
        "loss": name_of(loss),
        "attacks": [{"attack": run.attack, **attack.settings()} for run, attack in runs.items()],
        "examples": examples,
        "value_range": [float(bound) for bound in value_range],
        "seed": int(seed),
    }


def _size(dataset, examples, batch_size):
    """How many batches are used, or `None`."""
    if isinstance(dataset, tuple):
        dataset, batch_size = range(math.ceil(len(dataset[1]) / _BATCH_SIZE)), _BATCH_SIZE
    try:
        size = len(dataset)
    except TypeError:
        return None
    return size if examples is None else min(size, math.ceil(examples / batch_size))


def _batches(dataset, examples):
    """Batches of `(images, labels)`, as arrays, up to a number of examples."""
    if isinstance(dataset, tuple):
        dataset = tf.data.Dataset.from_tensor_slices(dataset).batch(_BATCH_SIZE)
    left = float("inf") if examples is None else examples
    for batch in dataset:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise ValueError(f"Expected batches of (images, labels). Received {type(batch).__name__}.")
        images, labels = (np.asarray(part)[: int(min(left, len(part)))] for part in batch[:2])
        if len(images):
            yield images, labels
        left -= len(images)
        if left <= 0:
            return


def _attacked(journal, run, number, attack, images, labels):
    """What comes of one attack on one batch: `{measure: [batch]}`, and the seconds; from the journal if there."""
    data = digest([images, labels])
    record = journal.find(run, number, data)
    if record is None:
        start = time.perf_counter()
        result = attack.run(images, labels)
        measured = {
            "success": result.success,
            "clean_success": result.clean_success,
            "loss": result.loss,
            "queries": result.queries,
            **result.displacement._asdict(),
        }
        record = {name: np.asarray(values).tolist() for name, values in measured.items()}
        record["seconds"] = time.perf_counter() - start
        journal.add(run, number, data, record)
    return record


def _so_far(results):
    """The progress bar's numbers: the part of the examples that each run has left."""

    def robust(records):
        return 1 - np.mean(np.concatenate([record["success"] for record in records]))

    return [(str(run), robust(records)) for run, records in results.items()]

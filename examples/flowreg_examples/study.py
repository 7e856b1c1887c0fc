"""What a reproduction study is made of: settings, the cells of their grid, and the run of one cell."""

import dataclasses
import os
from collections.abc import Callable
from typing import Optional

import keras
import numpy as np

import keras_flowreg as fr
from flowreg_examples.history import History, Score, read_history
from keras_flowreg import compat
from keras_flowreg.commands import datasets, outputs, recipes, training
from keras_flowreg.evaluation.plain import plain

VALIDATION_SIZE = 2000
# What a training leaves in its folder.
BEST_WEIGHTS, HISTORY = "best.weights.h5", "history.jsonl"
_CHECKPOINT_EXAMPLES = 512
BATCH_SIZE = 250  # of the attacks
_CHOOSES_WEIGHTS = "FlowFrankWolfe"  # on the validation images


@dataclasses.dataclass(frozen=True)
class Setting:
    """One network on one data set, and how it is trained and attacked.

    Attributes:
      dataset, architecture, width: as `datasets.load` and `architectures.build` take them.
      train_size: training images; `None` for all but the validation images.
      batch_size: in training.
      schedule: how long and how fast to train.
      epsilons: radii of the attacks, in pixels.
      epsilon: the one of them at which methods are compared.
      examples: how many validation images and how many test images are attacked, from the first.
      changes: `(field, value)` of every cell's `recipes.Recipe` that differ from the method's own.
    """

    dataset: str
    architecture: str
    width: float
    train_size: Optional[int]
    batch_size: int
    schedule: training.Schedule
    epsilons: tuple[float, ...]
    epsilon: float
    examples: int
    changes: tuple[tuple[str, object], ...] = ()

    @property
    def name(self):
        return f"{self.dataset}-{self.architecture}"

    def load(self, batch_size, seed=0, augment=None):
        """The data set; the validation images are the same for every seed."""
        return datasets.load(
            self.dataset,
            batch_size=batch_size,
            validation_size=VALIDATION_SIZE if self.dataset != "digits" else VALIDATION_SIZE // 2,
            train_size=self.train_size,
            augment=augment,
            seed=seed,
        )


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training of the grid.

    Attributes:
      setting: the `Setting`.
      method: one of `recipes.METHODS`.
      overrides: `(field, value)` of the `recipes.Recipe`, or of its schedule, that differ from the method's own and
        the setting's.
      seed: of the weights, the order, the augmentation and the starts.
    """

    setting: Setting
    method: str
    overrides: tuple[tuple[str, object], ...] = ()
    seed: int = 0

    @property
    def variant(self):
        """The method with what is particular to it."""
        return "-".join([self.method, *(f"{field}={_short(value)}" for field, value in self.overrides)])

    @property
    def name(self):
        return f"{self.setting.name}-{self.variant}-seed{self.seed}"

    @property
    def network(self):
        """What it shares with the cells whose models differ in nothing but the weights."""
        return f"{self.setting.name}-width={self.setting.width:g}-{self.recipe.activation}"

    @property
    def recipe(self):
        changes = dict(self.setting.changes + self.overrides)
        in_schedule = changes.keys() & {field.name for field in dataclasses.fields(training.Schedule)}
        schedule = dataclasses.replace(self.setting.schedule, **{field: changes.pop(field) for field in in_schedule})
        return dataclasses.replace(recipes.get(self.method, self.setting.dataset), schedule=schedule, **changes)

    def training_settings(self):
        """All that decides the training, as plain values."""
        setting = dataclasses.asdict(self.setting)
        for name in ("examples", "epsilons"):  # of the attacks that come after it
            del setting[name]
        return {"setting": setting, "recipe": dataclasses.asdict(self.recipe), "seed": self.seed}

    def load(self):
        """The data set, in the order that is the seed's, whatever ran before in this process."""
        keras.utils.set_random_seed(self.seed)
        return self.setting.load(self.setting.batch_size, self.seed)

    def build_model(self, dataset):
        """The compiled model, before training."""
        setting = self.setting
        return training.build_model(
            dataset,
            self.recipe,
            architecture=setting.architecture,
            width=setting.width,
            batch_size=setting.batch_size,
            seed=self.seed,
        )


@dataclasses.dataclass(frozen=True)
class Study:
    """A grid: every variant of every setting, seed by seed.

    Attributes:
      variants: `{setting: [(method, overrides), ...]}`.
      seeds: how many.
      attacks: takes a `Setting`; returns `({name: attack}, {name: radii})`.
    """

    variants: dict
    seeds: int
    attacks: Callable

    def cells(self, seeds=None, names=None):
        """All cells, those of the first seed first; for another number of seeds, or only of some names, if there are any."""
        cells = [
            Cell(setting=setting, method=method, overrides=tuple(overrides.items()), seed=seed)
            for seed in range(seeds or self.seeds)
            for setting, variants in self.variants.items()
            for method, overrides in variants
        ]
        if names:
            _expect_cells(names, cells)
            cells = [cell for cell in cells if cell.name in names]
        return cells


def _expect_cells(names, cells):
    unknown = set(names) - {cell.name for cell in cells}
    if unknown:
        known = "\n".join(cell.name for cell in cells)
        raise ValueError(f"Expected `--cell` to be one of\n{known}\nReceived {', '.join(sorted(unknown))}.")


def run(cell, study, folder):
    """Trains and attacks the model of one cell.

    Args:
      cell: the `Cell`.
      study: the `Study` it belongs to.
      folder: where partial results are, which a second run goes on from.

    Returns:
      What is known of it, as plain values.
    """
    with outputs.claimed_folder(folder, cell.training_settings(), "scratch"):
        return _run(cell, study, folder)


def _run(cell, study, folder):
    model, history = _trained(cell, folder)
    dataset = cell.setting.load(BATCH_SIZE)
    attacks, epsilons = study.attacks(cell.setting)
    reports = {}
    for split, names in splits(attacks).items():
        print(f"Attacking {split} images", flush=True)
        chosen = {name: attacks[name] for name in names}
        reports[split] = evaluate(model, cell.setting, dataset, split, chosen, epsilons, folder)
    return {
        "name": cell.name,
        "variant": cell.variant,
        "setting": dataclasses.asdict(cell.setting),
        "recipe": dataclasses.asdict(cell.recipe),
        "seed": cell.seed,
        "versions": compat.versions(),
        "seconds": {
            "training": sum(epoch["seconds"] for epoch in history),
            "attacks": sum(run["seconds"] for report in reports.values() for run in report.measures.values()),
        },
        "history": history,
        "chosen_epoch": _chosen_epoch(history),
        "bounds": _bounds(model, dataset.test, cell.setting),
        **{split: report.to_dict() for split, report in reports.items()},
    }


def splits(attacks):
    """Which of the attacks, by name, the images of each split are attacked by."""
    return {"validation": [_CHOOSES_WEIGHTS], "test": list(attacks)}


def evaluate(model, setting, dataset, split, attacks, epsilons, folder):
    """The report of some attacks on one split of a data set. Partial results are in the folder."""
    return fr.evaluate_robustness(
        model,
        getattr(dataset, split),
        attacks,
        {name: epsilons[name] for name in attacks},
        examples=setting.examples,
        check=False,  # What it would find is in the table: a gradient-free attack, and several radii.
        resume_from=os.path.join(folder, f"{split}.jsonl"),
    )


def _trained(cell, folder):
    """The model with the weights of its best epoch on validation images, and what each epoch logged."""
    setting, schedule, best = cell.setting, cell.recipe.schedule, os.path.join(folder, BEST_WEIGHTS)
    dataset = cell.load()
    model = cell.build_model(dataset)
    history_path = os.path.join(folder, HISTORY)
    history = read_history(history_path)
    if len(history) < schedule.epochs:
        attack = fr.attacks.FlowPGD(setting.epsilon, steps=5, start="zero")
        validation = dataset.validation.unbatch().take(_CHECKPOINT_EXAMPLES).batch(BATCH_SIZE)
        callbacks = [
            fr.callbacks.RobustAccuracyMonitor(attack, validation),
            Score(schedule),
            keras.callbacks.ModelCheckpoint(
                best,
                monitor="val_score",
                mode="max",
                save_best_only=True,
                save_weights_only=True,
                # What a training that was interrupted had reached.
                initial_value_threshold=max([epoch["val_score"] for epoch in history], default=None),
            ),
            History(history_path),
            # Last: an epoch counts as done when all else has its results.
            keras.callbacks.BackupAndRestore(os.path.join(folder, "backup")),
        ]
        training.fit(model, dataset, schedule, callbacks, verbose=2)
        history = read_history(history_path)
    model.load_weights(best)
    # Every cell is attacked by the same loss, whatever it was trained on.
    model.compile(loss=training.cross_entropy())
    return model, history


def expect_result_of(cell, path):
    """Checks that a file holds the result of a cell, and not of one with other settings."""
    result = outputs.read_json(path)
    own = plain(
        {"setting": dataclasses.asdict(cell.setting), "recipe": dataclasses.asdict(cell.recipe), "seed": cell.seed}
    )
    different = [name for name in own if result.get(name) != own[name]]
    if different:
        raise ValueError(f"Expected {path} to be the result of this cell. Received one of another {different[0]}.")


def _chosen_epoch(history):
    """The best on validation images; the last, of a training that looked at none."""
    scores = [epoch["val_score"] for epoch in history if "val_score" in epoch]
    return int(np.argmax(scores)) + 1 if scores else len(history)


def _bounds(model, dataset, setting):
    """Each example's first-order bounds, and by how much the strongest attack raises its loss."""
    images, labels = next(iter(dataset))
    bounds = fr.first_order_bounds(model, images, labels, setting.epsilon)
    attack = fr.attacks.FlowFrankWolfe(setting.epsilon)
    result = attack.run(images, labels, model=model, stop_when_fooled=False)
    values = {"flow": bounds.flow, "input": bounds.input, "rise": result.loss - result.clean_loss}
    attacked = ~result.clean_success.numpy()
    return {name: [float(f"{x:.4g}") for x in value.numpy()[attacked]] for name, value in values.items()}


def _short(value):
    if isinstance(value, tuple):
        return ",".join(map(_short, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)

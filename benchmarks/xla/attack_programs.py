r"""Attacks what train_program.py trained, on a machine that has JAX and no TensorFlow.

    python -m benchmarks.xla.attack_programs --attacks=attacks --runs=runs

--attacks is what export_attacks.py wrote, and --runs holds a folder for each training. What an attack found goes beside
the weights, and is not computed again. --only=attack5 runs that attack alone, so that several processes can share the
work.
"""

import json
import os
import pathlib
import time

import numpy as np
from absl import app, flags

from benchmarks.xla import data
from benchmarks.xla.program import Program

_ATTACKS = flags.DEFINE_string("attacks", None, "the folder of the attacks", required=True)
_RUNS = flags.DEFINE_string("runs", None, "the folder of the trainings", required=True)
_ONLY = flags.DEFINE_multi_string("only", None, "only this program; may be given several times")


def trained(network):
    """`{folder: its last state}` of the trainings of a network that have ended."""
    cells = json.loads((network / "cells.json").read_text())
    runs = {pathlib.Path(_RUNS.value) / cell: epochs for cell, epochs in cells.items()}
    return {run: run / f"state{epochs}.npz" for run, epochs in runs.items() if epochs_of(run) == epochs}


def epochs_of(run):
    path = run / "history.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def attack(program, images, labels):
    """What the program returns of all images, by name, and its seconds."""
    size, start, found = program.facts["batch_size"], time.perf_counter(), []
    for first in range(0, len(labels), size):
        rows = np.arange(first, min(first + size, len(labels)))
        # A program has one batch size: the last batch is filled up with examples that do not count.
        filled = np.resize(rows, size)
        outputs = program(images=images[filled], labels=labels[filled])
        found.append({name: np.asarray(value)[: len(rows)] for name, value in outputs.items()})
    values = {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
    return {**values, "seconds": time.perf_counter() - start}


def run_attack(folder, runs, images_of):
    """One attack on all trainings of its network."""
    facts = json.loads((folder / "program.json").read_text())
    jobs = [(run, split) for run in runs for split in facts["splits"]]
    jobs = [(run, split) for run, split in jobs if not (run / f"{split}-{folder.name}.npz").exists()]
    program = Program(folder) if jobs else None
    for run, split in jobs:
        program.load_state(runs[run])
        found = attack(program, *images_of[split])
        path = run / f"{split}-{folder.name}.npz"
        with open(f"{path}.part", "wb") as file:
            np.savez_compressed(file, **found)
        os.replace(f"{path}.part", path)
        left = 1 - found["success"].mean()
        print(f"{run.name}: {left:.3f} left by {facts['attack']}, {split}, {found['seconds']:.1f} s", flush=True)


def main(_):
    folder = pathlib.Path(_ATTACKS.value)
    for cells in sorted(folder.glob("*/cells.json")):
        network = cells.parent
        dataset = network.name.split("-")[0]
        images_of = {split: data.load(folder / f"data-{dataset}-{split}") for split in ("validation", "test")}
        for program in sorted(network.glob("attack*")):
            if not _ONLY.value or program.name in _ONLY.value:
                run_attack(program, trained(network), images_of)


if __name__ == "__main__":
    app.run(main)

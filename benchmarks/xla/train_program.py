r"""Trains by an exported step, on a machine that has JAX and no TensorFlow.

    python -m benchmarks.xla.train_program --program=programs/NAME --data=programs/data-cifar10 --output=runs/NAME

Start a killed training again, and it goes on from its last checkpoint. The order of the images depends on the seed and
the epoch alone. The last images of an epoch that fill no batch are left out. Writes history.jsonl and the state after the
last epoch, which attack_programs.py and import_runs.py take.
"""

import json
import os
import pathlib
import time

import numpy as np
from absl import app, flags

from benchmarks.xla import data
from benchmarks.xla.program import Program

_PROGRAM = flags.DEFINE_string("program", None, "a folder that export_training.py wrote", required=True)
_DATA = flags.DEFINE_string("data", None, "the folder with the parts of the training images", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "a folder", required=True)
_SAVE_EVERY = flags.DEFINE_integer("save_every", 1, "epochs from one checkpoint to the next", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", None, "stop after so many, to go on later", lower_bound=1)


def batches(images, labels, size, seed, epoch):
    order = np.random.RandomState([seed, epoch]).permutation(len(labels))
    for first in range(0, len(order) - size + 1, size):
        chosen = order[first : first + size]
        yield images[chosen], labels[chosen]


def train_epoch(program, images, labels, epoch):
    """What Keras would log for one epoch, and its seconds."""
    start = time.perf_counter()
    program.reset("metric")
    for batch_images, batch_labels in batches(
        images, labels, program.facts["batch_size"], program.facts["seed"], epoch
    ):
        logs = program(images=batch_images, labels=batch_labels)
    logs = {name: float(value) for name, value in logs.items()}
    return {**logs, "seconds": time.perf_counter() - start}


def read_history(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def save(program, history, output):
    """Writes a checkpoint. The history tells which state counts: a kill between the two repeats the epochs."""
    program.save_state(output / f"state{len(history)}.npz")
    text = "".join(json.dumps(line) + "\n" for line in history)
    (output / "history.part").write_text(text)
    os.replace(output / "history.part", output / "history.jsonl")


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    program, (images, labels) = Program(_PROGRAM.value), data.load(_DATA.value)
    history = read_history(output / "history.jsonl")
    if history:
        program.load_state(output / f"state{len(history)}.npz")
    epochs = program.facts["epochs"]
    last, saved = min(epochs, _EPOCHS.value or epochs), len(history)
    for epoch in range(len(history), last):
        history.append(train_epoch(program, images, labels, epoch))
        if (epoch + 1) % _SAVE_EVERY.value == 0 or epoch + 1 == last:
            save(program, history, output)
            (output / f"state{saved}.npz").unlink(missing_ok=True)
            saved = epoch + 1
        shown = ", ".join(f"{name} {value:.4g}" for name, value in history[-1].items())
        print(f"epoch {epoch + 1}/{epochs}: {shown}", flush=True)


if __name__ == "__main__":
    app.run(main)

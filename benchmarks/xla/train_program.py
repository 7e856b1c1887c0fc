r"""Trains by an exported step, on a machine that has JAX and no TensorFlow.

    python -m benchmarks.xla.train_program --program=programs/NAME --data=programs/data-cifar10 --output=runs/NAME

One checkpoint an epoch: start a killed training again, and it goes on at the epoch that it had reached. The order of
the images depends on the seed and the epoch alone. The last images of an epoch that fill no batch are left out. Writes
history.jsonl and the state after the last epoch, which import_weights.py takes.
"""

import json
import os
import pathlib
import time

import numpy as np
from absl import app, flags

from benchmarks.xla.program import Program

_PROGRAM = flags.DEFINE_string("program", None, "a folder that export_training.py wrote", required=True)
_DATA = flags.DEFINE_string("data", None, "the folder with the parts of the training images", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "a folder", required=True)
_EPOCHS = flags.DEFINE_integer("epochs", None, "stop after so many, to go on later", lower_bound=1)


def load_data(folder):
    """All images and labels."""
    parts = [np.load(path) for path in sorted(pathlib.Path(folder).glob("part*.npz"))]
    if not parts:
        raise app.UsageError(f"Expected part*.npz in --data. Received {folder}, which has none.")
    return tuple(np.concatenate([part[name] for part in parts]) for name in ("images", "labels"))


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


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    program, (images, labels) = Program(_PROGRAM.value), load_data(_DATA.value)
    history_path = output / "history.jsonl"
    history = read_history(history_path)
    if history:
        program.load_state(output / f"state{len(history)}.npz")
    epochs = program.facts["epochs"]
    for epoch in range(len(history), min(epochs, _EPOCHS.value or epochs)):
        history.append(train_epoch(program, images, labels, epoch))
        # The history tells which state counts: a kill between the two repeats the epoch.
        program.save_state(output / f"state{epoch + 1}.npz")
        text = "".join(json.dumps(line) + "\n" for line in history)
        (output / "history.part").write_text(text)
        os.replace(output / "history.part", history_path)
        (output / f"state{epoch}.npz").unlink(missing_ok=True)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in history[-1].items())
        print(f"epoch {epoch + 1}/{epochs}: {shown}", flush=True)


if __name__ == "__main__":
    app.run(main)

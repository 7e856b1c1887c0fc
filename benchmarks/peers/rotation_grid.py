r"""Compares RotationTranslation's grid with Foolbox's SpatialAttack, on the same weights and example by example.

    python -m benchmarks.peers.rotation_grid --model=digits.keras --dataset=digits --examples=200

Foolbox attacks a PyTorch network with the same weights, because its transform for TensorFlow treats the border in its
own way: at no angle and no shift it makes the last row and column black. Its positions differ from ours in three ways:

- a shift of its d pixels is one of d (size - 1) / size, which is undone here by asking for more;
- its shifts go the other way, which a symmetric grid does not show;
- it shifts first and then rotates. Ours rotates first and then shifts, as Engstrom et al. do.

So our attack is run twice: on its own grid, and on Foolbox's positions, where it has to find all that Foolbox finds.
"""

import math
import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import foolbox
import numpy as np
import torch
from absl import app, flags

import keras_flowreg as fr
from benchmarks.peers import torch_network
from keras_flowreg.commands import datasets

_MODEL = flags.DEFINE_string("model", None, "a saved Keras model with logits, a chain of layers", required=True)
_DATASET = flags.DEFINE_enum("dataset", "digits", datasets.NAMES, "the data set")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets keeps its data sets")
_EXAMPLES = flags.DEFINE_integer("examples", 200, "test images to attack, from the first", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 100, "images at a time", lower_bound=1)
_ANGLES = flags.DEFINE_integer("angles", 31, "angles of the grid", lower_bound=2)
_SHIFTS = flags.DEFINE_integer("shifts", 5, "shifts of the grid along each axis", lower_bound=2)
_MAX_ANGLE = flags.DEFINE_float("max_angle", 30.0, "degrees either way", lower_bound=0)
_MAX_SHIFT = flags.DEFINE_float("max_shift", 3.0, "pixels either way", lower_bound=0)


class ShiftedFirst(fr.attacks.RotationTranslation):
    """Our attack on the grid's images that are shifted first and rotated then: Foolbox's."""

    def _grid_points(self):
        return [_rotated_shift(*point) for point in super()._grid_points()]


def _rotated_shift(angle, down, right, growth):
    """The point (angle, shift) whose image is that of shifting first: the shift is rotated too."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return angle, cosine * down - sine * right, sine * down + cosine * right, growth


def foolbox_finds(network, batches, size):
    """Which examples Foolbox's grid fools the network on, those misclassified as they are among them."""
    attack = foolbox.attacks.SpatialAttack(
        max_translation=_MAX_SHIFT.value * size / (size - 1),
        max_rotation=_MAX_ANGLE.value,
        num_translations=_SHIFTS.value,
        num_rotations=_ANGLES.value,
    )
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    return np.concatenate(
        [attack(model, torch_network.to_torch(images), torch.tensor(labels))[2].numpy() for images, labels in batches]
    )


def our_finds(kind, model, batches):
    """Which examples our grid fools the model on."""
    attack = kind(
        loss="margin",
        angles=_ANGLES.value,
        shifts=_SHIFTS.value,
        max_angle=_MAX_ANGLE.value,
        max_shift=_MAX_SHIFT.value,
        border="black",
    )
    return np.concatenate([attack.run(images, labels, model=model).success.numpy() for images, labels in batches])


def main(_):
    model = fr.load_classifier(_MODEL.value)
    dataset = datasets.load(_DATASET.value, batch_size=_BATCH_SIZE.value, data_dir=_DATA_DIR.value)
    height, width, _ = dataset.image_shape
    if height != width:
        raise app.UsageError(f"Expected square images, as Foolbox's transform needs. Received {height}x{width}.")
    test = dataset.test.unbatch().take(_EXAMPLES.value).batch(_BATCH_SIZE.value)
    batches = list(test.as_numpy_iterator())
    network = torch_network.from_keras(model)
    for images, _ in batches:
        torch_network.expect_same_logits(model, network, images)
    theirs = foolbox_finds(network, batches, height)
    print(f"{len(theirs)} test images of {_DATASET.value}, Foolbox {foolbox.__version__}: "
          f"{_ANGLES.value} angles to {_MAX_ANGLE.value} degrees, "
          f"{_SHIFTS.value} x {_SHIFTS.value} shifts to {_MAX_SHIFT.value} pixels")  # fmt: skip
    print("| our positions | both | only ours | only Foolbox's | neither |\n| --- | ---: | ---: | ---: | ---: |")
    positions = {"our grid": fr.attacks.RotationTranslation, "Foolbox's": ShiftedFirst}
    examples = []
    for name, kind in positions.items():
        ours = our_finds(kind, model, batches)
        counts = (ours & theirs, ours & ~theirs, ~ours & theirs, ~ours & ~theirs)
        print(f"| {name} | {' | '.join(str(found.sum()) for found in counts)} |", flush=True)
        examples += [f"On {name}, {who}: {np.flatnonzero(found).tolist()}"
                     for who, found in zip(("only ours", "only Foolbox's"), counts[1:3])]  # fmt: skip
    print("", *examples, sep="\n")


if __name__ == "__main__":
    app.run(main)

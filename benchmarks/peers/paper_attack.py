r"""Compares FlowPGD.from_paper with the authors' attack written independently in PyTorch, on the same weights.

    python -m benchmarks.peers.paper_attack --model=digits.keras --dataset=digits --epsilon=0.01,0.03

The accuracy left by the authors' attack is that at its last iterate, as they evaluate it, and at its best one, as
FlowPGD keeps it. Outside the image PyTorch's warp is black and ours goes on with the edge pixel.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import torch
from absl import app, flags

import keras_flowreg as fr
from benchmarks.peers import torch_flow, torch_network
from keras_flowreg.commands import datasets

_MODEL = flags.DEFINE_string("model", None, "a saved Keras model with logits, a chain of layers", required=True)
_DATASET = flags.DEFINE_enum("dataset", "digits", datasets.NAMES, "the data set")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets keeps its data sets")
_EXAMPLES = flags.DEFINE_integer("examples", 1000, "test images to attack, from the first", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 100, "images at a time", lower_bound=1)
_EPSILON = flags.DEFINE_list("epsilon", ["0.01", "0.03"], "radii, in normalized [-1, 1] coordinates")
_STEPS = flags.DEFINE_integer("steps", 100, "sign steps of epsilon / steps", lower_bound=1)


def keras_accuracies(model, batches, image_size, epsilon):
    """The accuracies clean, and under FlowPGD with the authors' setting."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    attack = fr.attacks.FlowPGD.from_paper(image_size, epsilon=epsilon, steps=_STEPS.value, loss=loss)
    results = [attack.run(images, labels, model=model) for images, labels in batches]
    fooled = [(result.clean_success, result.success) for result in results]
    return 1 - np.concatenate(fooled, axis=1).mean(axis=1)


def torch_accuracies(network, batches, epsilon):
    """The accuracies at the last and at the best iterate of the authors' attack."""
    fooled = []
    for images, labels in batches:
        images, labels = torch_network.to_torch(images), torch.tensor(labels)
        fooled.append(torch.stack(torch_flow.sign_ascent(network, images, labels, epsilon, _STEPS.value)))
    return 1 - torch.cat(fooled, dim=1).numpy().mean(axis=1)


def main(_):
    model = fr.load_classifier(_MODEL.value)
    dataset = datasets.load(_DATASET.value, batch_size=_BATCH_SIZE.value, data_dir=_DATA_DIR.value)
    height, width, _ = dataset.image_shape
    if height != width:
        raise app.UsageError(f"Expected square images, which a normalized radius needs. Received {height}x{width}.")
    test = dataset.test.unbatch().take(_EXAMPLES.value).batch(_BATCH_SIZE.value)
    batches = list(test.as_numpy_iterator())
    network = torch_network.from_keras(model)
    for images, _ in batches:
        torch_network.expect_same_logits(model, network, images)
    print(f"{sum(len(labels) for _, labels in batches)} test images of {_DATASET.value}, {_STEPS.value} steps, "
          f"PyTorch {torch.__version__}")  # fmt: skip
    print("| ε (normalized) | ε (pixels) | clean | ours | theirs (last) | theirs (best) | ours - last (points) |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for epsilon in map(float, _EPSILON.value):
        clean, ours = keras_accuracies(model, batches, height, epsilon)
        last, best = torch_accuracies(network, batches, epsilon)
        pixels = fr.pixels_from_normalized(epsilon, height)
        print(f"| {epsilon:g} | {pixels:.3f} | {clean:.3f} | {ours:.3f} | {last:.3f} | {best:.3f} | "
              f"{100 * (ours - last):+.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    app.run(main)

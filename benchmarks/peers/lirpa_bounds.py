r"""Compares the bounds of certification with auto_LiRPA's, on the same weights and the same box of pixels.

    python -m benchmarks.peers.lirpa_bounds --model=digits.keras --dataset=digits --epsilons=0.05,0.2 --examples=10

Both bound every lead of the label over another class. The box is what flows of the radius can reach; that the channels of a
pixel move together, which only ours knows, is left out. Differences are parts of the bound's size, or of 1 if that is more.

Ours may be tighter in CROWN, since it meets every interval with the one that interval arithmetic gives.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import time

import auto_LiRPA
import numpy as np
import tensorflow as tf
import torch
from absl import app, flags

import keras_flowreg as fr
from benchmarks.peers import torch_network
from keras_flowreg.certification.bounds import Bounds
from keras_flowreg.certification.leads import lead_forms
from keras_flowreg.certification.network import Network
from keras_flowreg.certification.reach import Reach
from keras_flowreg.commands import datasets
from keras_flowreg.wrapped import classifier_of

_MODEL = flags.DEFINE_string("model", None, "a saved Keras model with logits, a chain of layers", required=True)
_DATASET = flags.DEFINE_enum("dataset", "digits", datasets.NAMES, "the data set")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets keeps its data sets")
_EXAMPLES = flags.DEFINE_integer("examples", 10, "test images to bound, from the first", lower_bound=1)
_EPSILONS = flags.DEFINE_list("epsilons", ["0.05", "0.2"], "radii of the flows, in pixels")

_METHODS = {"ibp": "IBP", "crown_ibp": "CROWN-IBP", "crown": "CROWN"}  # ours, and the name in auto_LiRPA


def our_bounds(model, box, forms, method):
    network = Network(classifier_of(model))
    bounds = Bounds(network, Reach(box), rounding=0.0)  # auto_LiRPA leaves no slack
    if method == "crown":
        bounds.tighten()
    return (bounds.minimum_by_intervals if method == "ibp" else bounds.minimum)(forms).numpy()


def their_bounds(network, box, forms, method):
    low, high = (torch_network.to_torch(end.numpy()) for end in box)
    images = (low + high) / 2
    perturbation = auto_LiRPA.PerturbationLpNorm(norm=np.inf, x_L=low, x_U=high)
    bounded = auto_LiRPA.BoundedModule(network, images, device="cpu")
    inputs = auto_LiRPA.BoundedTensor(images, perturbation)
    with torch.no_grad():
        return bounded.compute_bounds(x=(inputs,), C=torch.tensor(forms.numpy()), method=_METHODS[method])[0].numpy()


def main(_):
    model = fr.load_classifier(_MODEL.value)
    test = datasets.load(_DATASET.value, batch_size=_EXAMPLES.value, data_dir=_DATA_DIR.value).test
    images, labels = next(test.as_numpy_iterator())
    network = torch_network.from_keras(model)
    torch_network.expect_same_logits(model, network, images)
    forms = lead_forms(tf.cast(labels, tf.int32), int(model(images).shape[-1]))
    is_other = np.any(forms != 0, axis=2)
    print(f"{len(images)} test images of {_DATASET.value}, auto_LiRPA {auto_LiRPA.__version__}")
    print("| ε (px) | method | ours less theirs: least | most | seconds, ours | theirs |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for epsilon in map(float, _EPSILONS.value):
        box = fr.certification.reach_box(images, epsilon)
        for method in _METHODS:
            starts = [time.monotonic()]
            found = []
            for bounds, bounded in ((our_bounds, model), (their_bounds, network)):
                found.append(bounds(bounded, box, forms, method)[is_other])
                starts.append(time.monotonic())
            ours, theirs = found
            differences = (ours - theirs) / np.maximum(1, np.abs(theirs))
            seconds = np.diff(starts)
            print(f"| {epsilon:g} | {method} | {differences.min():.1e} | {differences.max():.1e} | "
                  f"{seconds[0]:.1f} | {seconds[1]:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    app.run(main)

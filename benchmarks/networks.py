r"""Times one exact step of flow-gradient regularization on networks as users bring them, beside a plain step.

    python -m benchmarks.networks --network=MobileNetV2 --network=small_vit --image_size=96 --batch_size=16
    python -m benchmarks.networks --network=MobileNetV2 --profile

The networks are those of keras.applications by name, a small vision transformer, and VGG-11. The three kinds of step take
turns in one process: plain, exact as the library takes it, and exact with TensorFlow's own second derivatives. The time is
the least of all rounds, and ratios are the medians of the rounds' own, so that a busy moment decides neither. Peak memory is that of a process of its own, less what it holds before its first step (Linux).
--profile shows instead where the time of a step goes.
"""

import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from typing import NamedTuple
from unittest import mock

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import psutil
import tensorflow as tf
from absl import app, flags

import keras_flowreg as fr
from benchmarks import profiling
from keras_flowreg import gradients
from keras_flowreg.commands import architectures

APPLICATIONS = (
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "ResNet50V2",
    "DenseNet121",
    "ConvNeXtTiny",
    "Xception",
)
_NETWORKS = flags.DEFINE_multi_string("network", [*APPLICATIONS, "small_vit", "vgg11"], "the networks")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 96, "height and width", lower_bound=32)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "images a step", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 4, "timed rounds", lower_bound=1)
_OWN = flags.DEFINE_bool("own", True, "whether to time TensorFlow's own second derivatives too")
_PROFILE = flags.DEFINE_bool("profile", False, "show the operations of a plain and of an exact step, and stop")
_SHOWN = 15  # operations of a profile
_ONLY = flags.DEFINE_string("only", None, "print what this kind of step takes, for the first network, in this process")
_CLASSES = 10
_WEIGHT = 4.4


class Measured(NamedTuple):
    """What a kind of step takes: seconds of the first and of the fastest step, and time and memory of a plain one's."""

    first: float
    fastest: float
    time: float
    memory: float


def small_vit(image_shape):
    """A vision transformer of four blocks, 8x8 patches and 128 features."""
    layers = keras.layers
    inputs = keras.Input(image_shape)
    x = layers.Reshape([-1, 128])(layers.Conv2D(128, 8, strides=8)(inputs))
    for _ in range(4):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 32)(y, y)])
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.Dense(128)(layers.Dense(512, activation="gelu")(y))])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(_CLASSES)(x))


def network(name):
    keras.utils.set_random_seed(0)
    shape = (_IMAGE_SIZE.value, _IMAGE_SIZE.value, 3)
    if name == "small_vit":
        return small_vit(shape)
    if name == "vgg11":
        return architectures.build(name, shape, _CLASSES)
    make = getattr(keras.applications, name)
    return make(weights=None, input_shape=shape, classes=_CLASSES, classifier_activation=None)


def step(name, kind):
    """A function that takes one step of a kind: `"plain"`, `"exact"` or `"own"`."""
    regularizer = None if kind == "plain" else fr.FlowGradientRegularizer(_WEIGHT, random_start=0.155)
    model = fr.FlowRegularizedModel(network(name), regularizer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-4), loss, jit_compile=False)
    random = np.random.RandomState(0)
    images = random.rand(_BATCH_SIZE.value, _IMAGE_SIZE.value, _IMAGE_SIZE.value, 3).astype("float32")
    labels = random.randint(0, _CLASSES, _BATCH_SIZE.value)
    return functools.partial(model.train_on_batch, images, labels)


def tensorflows_own(kind):
    """A scope in which an `"own"` step is traced."""
    if kind != "own":
        return contextlib.nullcontext()
    return mock.patch.object(gradients, "exact_second_derivatives", contextlib.nullcontext)


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def memory_of_steps(name, kind):
    """The MiB that two steps take at most, in this process."""
    take = step(name, kind)
    before = psutil.Process().memory_info().rss
    forget_peak()
    with tensorflows_own(kind):
        take()
    take()
    return (peak() - before) / 2**20


def forget_peak():
    """Lets the system count this process's peak memory anew. That of building the network is no step's."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak():
    """The most bytes that this process has held."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def in_a_process(name, kind):
    arguments = [f"--{flag}={flags.FLAGS[flag].value}" for flag in ("image_size", "batch_size")]
    command = [sys.executable, "-m", "benchmarks.networks", *arguments, f"--network={name}", f"--only={kind}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(name, kinds):
    """`{kind: a Measured}`."""
    memory = {kind: in_a_process(name, kind) for kind in kinds}
    steps, first = {kind: step(name, kind) for kind in kinds}, {}
    for kind, take in steps.items():
        with tensorflows_own(kind):
            first[kind] = seconds(take)
    rounds = [{kind: seconds(take) for kind, take in steps.items()} for _ in range(_ROUNDS.value)]
    return {
        kind: Measured(
            first[kind],
            min(times[kind] for times in rounds),
            statistics.median(times[kind] / times["plain"] for times in rounds),
            memory[kind] / memory["plain"],
        )
        for kind in kinds
    }


def profile(name):
    """Where the time of a step goes, as a table."""
    steps = {kind: step(name, kind) for kind in ("plain", "exact")}
    for take in steps.values():
        take()
    return profiling.table(steps, _ROUNDS.value, _SHOWN)


def main(_):
    if _ONLY.value:
        print(json.dumps(memory_of_steps(_NETWORKS.value[0], _ONLY.value)))
        return
    if _PROFILE.value:
        for name in _NETWORKS.value:
            print(f"{name}, seconds of all threads together\n{profile(name)}\n", flush=True)
        return
    kinds = ("plain", "exact", *["own"] * _OWN.value)
    own = ["TensorFlow's own", "its memory"] * _OWN.value
    headers = ["network", "plain (s)", "exact / plain", "memory", *own, "first exact step (s)"]
    print(
        f"{_IMAGE_SIZE.value} px, batch {_BATCH_SIZE.value}, TensorFlow {tf.__version__}, Keras {keras.__version__}\n"
        f"| {' | '.join(headers)} |\n| --- |{' ---: |' * (len(headers) - 1)}",
        flush=True,
    )
    for name in _NETWORKS.value:
        found = measure(name, kinds)
        ratios = [f"{ratio:.2f}" for kind in kinds[1:] for ratio in found[kind][2:]]
        exact = found["exact"]
        print(f"| {name} | {found['plain'].fastest:.3f} | {' | '.join(ratios)} | {exact.first:.1f} |", flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    app.run(main)

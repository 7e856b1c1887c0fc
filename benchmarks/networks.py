r"""Times one exact step of flow-gradient regularization on networks as users bring them, beside a plain step.

    python -m benchmarks.networks --network=MobileNetV2 --network=small_vit --image_size=96 --batch_size=16
    python -m benchmarks.networks --network=MobileNetV2 --profile

The networks are those of keras.applications by name, a small vision transformer, and VGG-11. The three kinds of step take
turns in one process: plain, exact as the library takes it, and exact with TensorFlow's own second derivatives. The time is
the least of all rounds, and ratios are the medians of the rounds' own, so that a busy moment decides neither. Peak memory
is that of a process of its own, less what it holds before its first step (Linux). Errors are relative: of the penalty's
slope along random directions of the weights, beside differences of the penalty, both in double precision; of its gradient
in single precision, beside double; and, to compare with, of TensorFlow's own gradient with respect to the images.
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
from keras_flowreg import compat, gradients
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
_ONLY = flags.DEFINE_string("only", None, "print one kind of step's memory, or the errors, of the first network")
_CLASSES = 10
_WEIGHT = 4.4
_DIRECTIONS, _EXAMPLES = 3, 4  # of the errors
_DIFFERENCE = 1e-9  # of the weights: so small that hardly a ReLU opens or closes on the way


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
    model.compile(keras.optimizers.SGD(1e-4), loss(), jit_compile=False)
    return functools.partial(model.train_on_batch, *batch(_BATCH_SIZE.value))


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batch(size):
    random = np.random.RandomState(0)
    images = random.rand(size, _IMAGE_SIZE.value, _IMAGE_SIZE.value, 3).astype("float32")
    return images, random.randint(0, _CLASSES, size)


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


def errors(name):
    """Of the slope in double precision, of the penalty's gradient in single, and of TensorFlow's gradient in single."""
    single, double = without_draws(network(name)), without_draws(in_double_precision(name))
    double.set_weights(single.get_weights())
    # Before a penalty is taken: that changes the statistics of a batch normalization, and no training depends on them.
    images = [gradient_by_images(model) for model in (single, double)]
    weights = [gradient_by_weights(model) for model in (single, double)]
    return slope_error(double, weights[1]), relative_error(*weights), relative_error(*images)


def in_double_precision(name):
    policies = keras.backend.set_floatx, keras.mixed_precision.set_global_policy
    for set_policy in policies:
        set_policy("float64")
    model = network(name)
    for set_policy in policies:
        set_policy("float32")
    return model


def gradient_by_images(model):
    images, labels = images_and_labels(model)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = loss()(labels, model(images, training=True))
    return [tape.gradient(value, images).numpy()]


def gradient_by_weights(model):
    with tf.GradientTape() as tape:
        penalty = penalty_of(model)
    return [part.numpy() for part in tape.gradient(penalty, compat.tf_variables(model.trainable_variables))]


def slope_error(model, gradient):
    """The relative error of slopes along random directions, beside differences."""
    variables, random = compat.tf_variables(model.trainable_variables), np.random.RandomState(1)
    here, slopes, differences = [variable.numpy() for variable in variables], [], []

    def penalty_at(distance, direction):
        for variable, value, part in zip(variables, here, direction):
            variable.assign(value + distance * part)
        return float(penalty_of(model))

    for _ in range(_DIRECTIONS):
        direction = [random.randn(*value.shape) * (np.std(value) or 1.0) for value in here]
        slopes.append(sum(np.sum(part * along) for part, along in zip(gradient, direction)))
        rise = penalty_at(_DIFFERENCE, direction) - penalty_at(-_DIFFERENCE, direction)
        differences.append(rise / (2 * _DIFFERENCE))
    return relative_error(slopes, differences)


def relative_error(found, expected):
    """Of lists of arrays."""
    distance = sum(np.sum(np.square(one - other)) for one, other in zip(found, expected))
    return float(np.sqrt(distance / sum(np.sum(np.square(one)) for one in expected)))


def penalty_of(model):
    return fr.FlowGradientRegularizer(_WEIGHT)(model, *images_and_labels(model), loss())[1]


def images_and_labels(model):
    images, labels = batch(_EXAMPLES)
    return tf.cast(images, model.compute_dtype), labels


def without_draws(model):
    """Dropout of nothing: a difference needs the same network twice."""
    for layer in model.layers:
        for name in ("rate", "drop_path_rate"):
            if hasattr(layer, name):
                setattr(layer, name, 0.0)
    return model


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
        name = _NETWORKS.value[0]
        print(json.dumps(errors(name) if _ONLY.value == "errors" else memory_of_steps(name, _ONLY.value)))
        return
    if _PROFILE.value:
        for name in _NETWORKS.value:
            print(f"{name}, seconds of all threads together\n{profile(name)}\n", flush=True)
        return
    kinds = ("plain", "exact", *["own"] * _OWN.value)
    own = ["TensorFlow's own", "its memory"] * _OWN.value
    headers = [
        "network",
        "plain (s)",
        "exact / plain",
        "memory",
        *own,
        "first exact step (s)",
        "error, double",
        "single",
        "TensorFlow's, single",
    ]
    print(
        f"{_IMAGE_SIZE.value} px, batch {_BATCH_SIZE.value}, TensorFlow {tf.__version__}, Keras {keras.__version__}\n"
        f"| {' | '.join(headers)} |\n| --- |{' ---: |' * (len(headers) - 1)}",
        flush=True,
    )
    for name in _NETWORKS.value:
        found = measure(name, kinds)
        ratios = [f"{ratio:.2f}" for kind in kinds[1:] for ratio in found[kind][2:]]
        last = " | ".join([f"{found['exact'].first:.1f}", *(f"{one:.0e}" for one in in_a_process(name, "errors"))])
        print(f"| {name} | {found['plain'].fastest:.3f} | {' | '.join(ratios)} | {last} |", flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    app.run(main)

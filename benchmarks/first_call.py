r"""Measures what an attack costs beside its search: the first call, the memory that attacks keep, and deleted models.

    python -m benchmarks.first_call --architecture=MobileNetV2

The first call of an attack on a model traces and compiles it; what the second takes is the search itself. The members
of AutoDeform should share that work. Then many attacks, each of another radius, are made and run one after another
on one small model, whose process should not grow: what is kept of the latest attacks fills up first, and what is lost
grows to the end. And a model that was attacked is deleted, and should be freed. Each measurement is made in a process of
its own.
"""

import gc
import itertools
import json
import os
import subprocess
import sys
import time
import weakref

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import psutil
import tensorflow as tf
from absl import app, flags

import keras_flowreg as fr
from keras_flowreg.commands import architectures

_ARCHITECTURE = flags.DEFINE_string("architecture", "MobileNetV2", "the network, by its name in keras.applications")
_IMAGE_SHAPE = flags.DEFINE_multi_integer("image_shape", [96, 96, 3], "height, width, channels")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "images a batch", lower_bound=1)
_ATTACKS = flags.DEFINE_integer("attacks", 200, "attacks that are made one after another", lower_bound=2)
_WARMUP = flags.DEFINE_integer("warmup", 20, "attacks before them, which may fill what is kept", lower_bound=1)
_ONLY = flags.DEFINE_string("only", None, "make this measurement in this process")
_EPSILON = 0.2
_CLASSES = 10
_SMALL_SHAPE = (28, 28, 1)


def large_model():
    """The network of keras.applications, untrained, with logits."""
    build = getattr(keras.applications, _ARCHITECTURE.value)
    shape = tuple(_IMAGE_SHAPE.value)
    return compiled(build(input_shape=shape, weights=None, classes=_CLASSES, classifier_activation=None))


def small_model():
    return compiled(architectures.build("small_cnn", _SMALL_SHAPE, _CLASSES, width=0.1))


def compiled(model):
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def batch(model):
    """Images of noise, and the model's own answers: it is right on all of them."""
    images = np.random.RandomState(0).rand(_BATCH_SIZE.value, *model.input_shape[1:]).astype("float32")
    return images, np.argmax(model.predict(images, verbose=0), axis=1)


def time_calls(attack):
    """The seconds of an attack's first two calls on the large network."""
    model = large_model()
    images, labels = batch(model)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        attack.run(images, labels, model=model)
        times.append(time.perf_counter() - start)
    return times


def grown_memory():
    """By how many MiB the process grows over each half of the attacks that are made one after another."""
    model = small_model()
    images, labels = batch(model)
    radii = (_EPSILON + 1e-3 * number for number in itertools.count())

    def memory_after(attacks):
        for epsilon in itertools.islice(radii, attacks):
            fr.attacks.FlowPGD(epsilon, steps=2).run(images, labels, model=model)
        gc.collect()
        memory = psutil.Process().memory_info().rss / 2**20
        print(f"{memory:.0f} MiB after {attacks} more attacks", file=sys.stderr, flush=True)
        return memory

    half = _ATTACKS.value // 2
    before, between, after = map(memory_after, (_WARMUP.value, half, _ATTACKS.value - half))
    return between - before, after - between


def is_freed():
    """Whether a model that was attacked is freed when it is deleted."""
    model = small_model()
    images, labels = batch(model)
    for attack in attacks().values():
        attack.run(images, labels, model=model)
    reference = weakref.ref(model)
    del model
    gc.collect()
    return reference() is None


def attacks():
    return {"FlowFrankWolfe": fr.attacks.FlowFrankWolfe(_EPSILON), "AutoDeform": fr.attacks.AutoDeform(_EPSILON)}


def measurements():
    """`{name: a function that returns plain values}`."""
    timed = {name: lambda attack=attack: time_calls(attack) for name, attack in attacks().items()}
    return {**timed, "memory": grown_memory, "deleted model": is_freed}


def measured_apart(name):
    """What a measurement returns, in a process of its own."""
    print(f"Measuring: {name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.first_call", *sys.argv[1:], f"--only={name}"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main(_):
    if _ONLY.value:
        keras.utils.set_random_seed(0)
        print(json.dumps(measurements()[_ONLY.value]()))
        return
    found = {name: measured_apart(name) for name in measurements()}
    base, *_ = found["FlowFrankWolfe"]
    print(f"{_ARCHITECTURE.value}, images {_IMAGE_SHAPE.value}, batch {_BATCH_SIZE.value}, "
          f"TensorFlow {tf.__version__}, Keras {keras.__version__}\n")  # fmt: skip
    print("| attack | first call (s) | second call (s) | first, of FlowFrankWolfe's |\n| --- | ---: | ---: | ---: |")
    for name in attacks():
        first, second = found[name]
        print(f"| {name} | {first:.1f} | {second:.1f} | {first / base:.2f} |")
    first_half, second_half = found["memory"]
    print("\n| attacks on one small model | grown (MiB) | in their second half | a deleted model |")
    print("| ---: | ---: | ---: | --- |")
    freed = "is freed" if found["deleted model"] else "is kept"
    print(f"| {_ATTACKS.value} | {first_half + second_half:.1f} | {second_half:.1f} | {freed} |")


if __name__ == "__main__":
    app.run(main)

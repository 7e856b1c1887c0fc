r"""Times one training step: plain, and flow-regularized in each way that computes the same penalty.

    python benchmarks/step_time.py --architecture=vgg11 --batch_size=128

The variants take turns in one process, so that a machine whose speed drifts does not favour one. The time is
that of the fastest step: what it costs when nothing else runs. Peak memory is measured in a process of its own
for each variant.
"""

import os
import pathlib
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

sys.path[:0] = [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("", "examples")]

import keras_flowreg as fr  # noqa: E402
from common import architectures  # noqa: E402
from keras_flowreg import compat  # noqa: E402

_ARCHITECTURE = flags.DEFINE_enum("architecture", "vgg11", architectures.NAMES, "the network")
_WIDTH = flags.DEFINE_float("width", 1.0, "multiplies the network's channels")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "images a step", lower_bound=1)
_IMAGE_SHAPE = flags.DEFINE_multi_integer("image_shape", [32, 32, 3], "height, width, channels")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "timed steps of each variant", lower_bound=1)
_RANDOM_START = flags.DEFINE_float("random_start", 0.155, "standard deviation in pixels", lower_bound=0)
_JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "whether to compile with XLA")
_ONLY = flags.DEFINE_enum("only", None, ["plain", "analytic", "tape", "tfa_tape"], "print this variant's memory")


class TfaFlow(fr.perturbations.Perturbation):
    """The obvious implementation: a tape through TensorFlow Addons' warp, with its own gradient."""

    def parameter_shape(self, images):
        return tf.concat([tf.shape(images)[:3], [2]], axis=0)

    def apply(self, images, parameters):
        return compat.tfa_dense_image_warp()(images, parameters)


def regularizers():
    """The regularizer of each variant; `None` for plain training."""
    options = {"weight": 4.4, "random_start": _RANDOM_START.value}
    variants = {
        "plain": None,
        "analytic": fr.FlowGradientRegularizer(**options),
        "tape": fr.FlowGradientRegularizer(gradient="tape", **options),
    }
    if compat.tfa_dense_image_warp() is not None:
        variants["tfa_tape"] = fr.GradientRegularizer(TfaFlow(), **options)
    return variants


def training_step(regularizer):
    """A function that takes one step on one batch of noise, and waits for it."""
    keras.utils.set_random_seed(0)
    model = architectures.build(_ARCHITECTURE.value, tuple(_IMAGE_SHAPE.value), 10, width=_WIDTH.value)
    if regularizer is not None:
        model = fr.FlowRegularizedModel(model, regularizer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=_JIT_COMPILE.value)
    images = np.random.rand(_BATCH_SIZE.value, *_IMAGE_SHAPE.value).astype("float32")
    labels = np.random.randint(0, 10, _BATCH_SIZE.value)
    return lambda: model.train_on_batch(images, labels)


def seconds(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak_memory(variant):
    """The peak memory in MiB of a process that takes three steps of one variant."""
    command = [sys.executable, __file__, *sys.argv[1:], f"--only={variant}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main(_):
    if _ONLY.value:
        step = training_step(regularizers()[_ONLY.value])
        for _ in range(3):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    # Before this process grows: a child's peak begins at its parent's.
    memory = {name: peak_memory(name) for name in regularizers()}
    steps = {name: training_step(regularizer) for name, regularizer in regularizers().items()}
    for step in steps.values():
        step()
    rounds = [{name: seconds(step) for name, step in steps.items()} for _ in range(_ROUNDS.value)]
    fastest = {name: min(times[name] for times in rounds) for name in steps}
    print(f"{_ARCHITECTURE.value}, width {_WIDTH.value}, batch {_BATCH_SIZE.value}, images {_IMAGE_SHAPE.value}, "
          f"TensorFlow {tf.__version__}, Keras {keras.__version__}, XLA {_JIT_COMPILE.value}")  # fmt: skip
    print("| step | seconds | of plain | peak MiB |\n| --- | ---: | ---: | ---: |")
    for name, time_taken in fastest.items():
        print(f"| {name} | {time_taken:.3f} | {time_taken / fastest['plain']:.2f} | {memory[name]:.0f} |")


if __name__ == "__main__":
    app.run(main)

r"""Times one training step: plain, flow-regularized in several ways, and on deformed images.

    python -m benchmarks.step_time --architecture=vgg11 --batch_size=128

The variants take turns in one process, so that a machine whose speed drifts does not favour one. A round is four
steps; the time is the mean of the four, each in its fastest round: what a step costs when nothing else runs. Peak memory
is measured in a process of its own for each variant. The authors' step in PyTorch is timed where PyTorch is installed (see
peers/).
"""

import functools
import importlib.util
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_flowreg as fr
from keras_flowreg import compat
from keras_flowreg.commands import architectures

_ARCHITECTURE = flags.DEFINE_enum("architecture", "vgg11", architectures.NAMES, "the network")
_WIDTH = flags.DEFINE_float("width", 1.0, "multiplies the network's channels")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "images a step", lower_bound=1)
_IMAGE_SHAPE = flags.DEFINE_multi_integer("image_shape", [32, 32, 3], "height, width, channels")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "timed rounds of each variant", lower_bound=1)
_RANDOM_START = flags.DEFINE_float("random_start", 0.155, "standard deviation in pixels", lower_bound=0)
_JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "whether to compile with XLA")
_PEERS = flags.DEFINE_bool("peers", True, "whether to time PyTorch too")
_ONLY = flags.DEFINE_string("only", None, "print this variant's memory")
_STEPS_A_ROUND = 4
_CLASSES = 10
_LAMBDA = 300  # the authors'


class TfaFlow(fr.perturbations.Perturbation):
    """The obvious implementation: a tape through TensorFlow Addons' warp, with its own gradient."""

    def parameter_shape(self, images):
        return tf.concat([tf.shape(images)[:3], [2]], axis=0)

    def apply(self, images, parameters):
        return compat.tfa_dense_image_warp()(images, parameters)


def penalties():
    """`{name: options of FlowRegularizedModel}`, with the authors' weight; none for a plain step."""
    weight = fr.weight_from_paper(_LAMBDA, batch_size=_BATCH_SIZE.value, image_size=_IMAGE_SHAPE.value[0])
    flow = functools.partial(fr.FlowGradientRegularizer, weight, random_start=_RANDOM_START.value)
    found = {
        "plain": {},
        "analytic": {"regularizer": flow()},
        "tape": {"regularizer": flow(gradient="tape")},
        "finite_difference": {"regularizer": flow(method="finite_difference")},
        "penalty_every=4": {"regularizer": flow(), "penalty_every": 4},
        "fraction=1/4": {"regularizer": flow(fraction=0.25)},
        "flow consistency": {"regularizer": fr.FlowConsistencyRegularizer(_RANDOM_START.value)},
    }
    if compat.tfa_dense_image_warp() is not None:
        tfa_tape = fr.GradientRegularizer(TfaFlow(), weight, random_start=_RANDOM_START.value)
        found["tfa_tape"] = {"regularizer": tfa_tape}
    return found


def variants():
    """`{name: a function that makes the step}`."""
    makers = {name: functools.partial(keras_step, **options) for name, options in penalties().items()}
    attacks = {
        "5 steps": fr.attacks.FlowPGD(_RANDOM_START.value, steps=5),
        "1 Frank-Wolfe step": fr.attacks.FlowFrankWolfe(_RANDOM_START.value, steps=1),
    }
    for name, attack in attacks.items():
        makers[f"deformation training, {name}"] = functools.partial(keras_step, attack=attack)
    if _PEERS.value and importlib.util.find_spec("torch"):
        makers["PyTorch plain"] = functools.partial(pytorch_step, 0)
        makers["PyTorch flow gradient"] = functools.partial(pytorch_step, _LAMBDA)
    return makers


def network():
    keras.utils.set_random_seed(0)
    return architectures.build(_ARCHITECTURE.value, tuple(_IMAGE_SHAPE.value), _CLASSES, width=_WIDTH.value)


def batch():
    """Images of noise, and labels."""
    images = np.random.RandomState(0).rand(_BATCH_SIZE.value, *_IMAGE_SHAPE.value).astype("float32")
    return images, np.random.RandomState(1).randint(0, _CLASSES, _BATCH_SIZE.value)


def compiled_model(**options):
    """The network, to be trained by `fr.FlowRegularizedModel` if there are options for it.

    Args:
      **options: as `fr.FlowRegularizedModel`.
    """
    model = network()
    if options:
        model = fr.FlowRegularizedModel(model, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=_JIT_COMPILE.value)
    return model


def keras_step(**options):
    """A function that takes one step, and waits for it; the options are those of `compiled_model`."""
    return functools.partial(compiled_model(**options).train_on_batch, *batch())


def pytorch_step(weight):
    """The same of the authors' step in PyTorch."""
    import torch

    from benchmarks.peers import torch_network, torch_step

    images, labels = batch()
    start = fr.normalized_from_pixels(_RANDOM_START.value, _IMAGE_SHAPE.value[0])
    peer = torch_network.from_keras(network())
    return torch_step.training_step(peer, torch_network.to_torch(images), torch.tensor(labels), weight, start)


def seconds(step):
    """Of each step of a round."""
    times = []
    for _ in range(_STEPS_A_ROUND):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def peak_memory(variant):
    """The peak memory in MiB of a process that takes three steps of one variant."""
    command = [sys.executable, "-m", "benchmarks.step_time", *sys.argv[1:], f"--only={variant}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main(_):
    if _ONLY.value:
        step = variants()[_ONLY.value]()
        for _ in range(3):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    # Before this process grows: a child's peak begins at its parent's.
    memory = {name: peak_memory(name) for name in variants()}
    steps = {name: make() for name, make in variants().items()}
    for step in steps.values():
        step()
    rounds = [{name: seconds(step) for name, step in steps.items()} for _ in range(_ROUNDS.value)]
    fastest = {name: np.min([times[name] for times in rounds], axis=0).mean() for name in steps}
    print(f"{_ARCHITECTURE.value}, width {_WIDTH.value}, batch {_BATCH_SIZE.value}, images {_IMAGE_SHAPE.value}, "
          f"TensorFlow {tf.__version__}, Keras {keras.__version__}, XLA {_JIT_COMPILE.value}")  # fmt: skip
    print("| step | seconds | of plain | peak MiB |\n| --- | ---: | ---: | ---: |")
    for name, time_taken in fastest.items():
        print(f"| {name} | {time_taken:.3f} | {time_taken / fastest['plain']:.2f} | {memory[name]:.0f} |")


if __name__ == "__main__":
    app.run(main)

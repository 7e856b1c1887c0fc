r"""Times the checks of a batch beside the step that they guard.

    python -m benchmarks.checks --architecture=vgg11 --batch_size=128

A training step counts what is wrong with its batch, and leaves the weights as they are then: Keras's step and the guarded
one take turns, on networks that are alike. An attack checks its images and labels before it is run. The time is the fastest
of a few rounds. "traces" says how often the guarded step was traced for batches of 8 sizes.
"""

import os
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_flowreg as fr
from keras_flowreg.commands import architectures
from keras_flowreg.ops.labels import expect_labels
from keras_flowreg.ops.validation import as_images, as_labels, expect_in_range, expect_same_batch

_ARCHITECTURE = flags.DEFINE_enum("architecture", "vgg11", architectures.NAMES, "the network")
_WIDTH = flags.DEFINE_float("width", 1.0, "multiplies the network's channels")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "images a step", lower_bound=8)
_IMAGE_SHAPE = flags.DEFINE_multi_integer("image_shape", [32, 32, 3], "height, width, channels")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "timed rounds", lower_bound=1)
_CLASSES = 10
_RANGE = (0.0, 1.0)


def batch(size):
    """Images of noise, labels, and predictions."""
    random = np.random.RandomState(0)
    images = random.rand(size, *_IMAGE_SHAPE.value).astype("float32")
    predictions = random.rand(size, _CLASSES).astype("float32")
    return tf.constant(images), tf.constant(random.randint(0, _CLASSES, size)), tf.constant(predictions)


def build():
    """A network that Keras trains."""
    keras.utils.set_random_seed(0)
    return architectures.build(_ARCHITECTURE.value, tuple(_IMAGE_SHAPE.value), _CLASSES, width=_WIDTH.value)


def checks_of_an_attack(images, labels, predictions):
    """What an attack checks before it is run."""
    images, labels = as_images(images), as_labels(labels)
    expect_same_batch(images, labels)
    expect_in_range(images, _RANGE)
    expect_labels(labels, predictions, "indices")


def fastest(*functions):
    """Seconds of a call of each; they take turns."""
    times = {function: [] for function in functions}
    for _ in range(_ROUNDS.value + 1):
        for function, seconds in times.items():
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return [min(seconds[1:]) for seconds in times.values()]


class Counted(fr.FlowRegularizedModel):
    """It counts how often its step is traced."""

    traces = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)


def main(_):
    network, guarded = build(), Counted(build())
    for model in (network, guarded):
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    images, labels, predictions = batch(_BATCH_SIZE.value)
    step, guarded_step = fastest(
        lambda: network.train_on_batch(images, labels), lambda: guarded.train_on_batch(images, labels)
    )
    attack = fr.attacks.FlowFGSM(0.1)
    attacked, checks = fastest(
        lambda: attack.run(images, labels, model=network).success.numpy(),
        lambda: checks_of_an_attack(images, labels, predictions),
    )
    for size in range(_BATCH_SIZE.value - 7, _BATCH_SIZE.value + 1):
        guarded.train_on_batch(*batch(size)[:2])
    rows = {"plain training step": (step, guarded_step - step), "FlowFGSM": (attacked, checks)}
    print(f"{_ARCHITECTURE.value}, width {_WIDTH.value}, batch {_BATCH_SIZE.value}, images {_IMAGE_SHAPE.value}, "
          f"TensorFlow {tf.__version__}, Keras {keras.__version__}")  # fmt: skip
    print("| what is guarded | ms | checks, ms | part |\n| --- | ---: | ---: | ---: |")
    for name, (whole, part) in rows.items():
        print(f"| {name} | {1000 * whole:.1f} | {1000 * part:.2f} | {part / whole:.2%} |")
    print(f"traces: {guarded.traces}")


if __name__ == "__main__":
    app.run(main)

r"""Times the checks of a batch beside the step that they guard.

    python -m benchmarks.checks --architecture=vgg11 --batch_size=128

A step checks that images are finite, and that labels fit the predictions; an attack also checks the value range. Each is
timed as it runs: inside the compiled step, and before a compiled attack. The time is the fastest of a few rounds. "traces"
says how often the checks were traced for batches of 8 sizes.
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
from keras_flowreg.ops.losses import expect_labels_in_range
from keras_flowreg.ops.validation import as_images, as_labels, expect_finite, expect_in_range, expect_same_batch

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


def checks_of_a_step(loss):
    """What a training step checks, compiled."""

    @tf.function(reduce_retracing=True)
    def check(images, labels, predictions):
        images = expect_finite(as_images(images))
        return images[0, 0, 0, 0], expect_labels_in_range(labels, predictions, loss)[0]

    return check


def checks_of_an_attack(images, labels, predictions):
    """What an attack checks before it is run."""
    images, labels = as_images(images), as_labels(labels)
    expect_same_batch(images, labels)
    expect_in_range(images, _RANGE)
    expect_labels(labels, predictions, "indices")


def fastest(function):
    """Seconds of a call."""
    times = []
    for _ in range(_ROUNDS.value + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def main(_):
    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network = architectures.build(_ARCHITECTURE.value, tuple(_IMAGE_SHAPE.value), _CLASSES, width=_WIDTH.value)
    network.compile("sgd", loss)
    images, labels, predictions = batch(_BATCH_SIZE.value)
    check, attack = checks_of_a_step(loss), fr.attacks.FlowFGSM(0.1)
    step = fastest(lambda: network.train_on_batch(images, labels))
    attacked = fastest(lambda: attack.run(images, labels, model=network).success.numpy())
    rows = {
        "plain training step": (step, fastest(lambda: [part.numpy() for part in check(images, labels, predictions)])),
        "FlowFGSM": (attacked, fastest(lambda: checks_of_an_attack(images, labels, predictions))),
    }
    for size in range(_BATCH_SIZE.value - 7, _BATCH_SIZE.value + 1):
        check(*batch(size))
    print(f"{_ARCHITECTURE.value}, width {_WIDTH.value}, batch {_BATCH_SIZE.value}, images {_IMAGE_SHAPE.value}, "
          f"TensorFlow {tf.__version__}, Keras {keras.__version__}")  # fmt: skip
    print("| what is guarded | ms | checks, ms | part |\n| --- | ---: | ---: | ---: |")
    for name, (guarded, checks) in rows.items():
        print(f"| {name} | {1000 * guarded:.1f} | {1000 * checks:.2f} | {checks / guarded:.2%} |")
    print(f"traces: {check.experimental_get_tracing_count()}")


if __name__ == "__main__":
    app.run(main)

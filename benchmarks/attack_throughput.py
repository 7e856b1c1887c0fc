r"""Times attacks: FlowPGD against its model's bare passes and against other libraries, and one grid of rotations.

    python -m benchmarks.attack_throughput --batch_size=128 --steps=5

The images are noise, their labels the network's own answers, and the radii so small that no example is fooled: an
attack of ours would stop there, and do less than it is timed for. The variants take turns in one process, and the time is that
of the fastest round, as in step_time.py. Peers that are not installed are left out.
"""

import functools
import importlib.util
import os
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import keras_flowreg as fr
from keras_flowreg import compat
from keras_flowreg.commands import architectures

_ARCHITECTURE = flags.DEFINE_enum("architecture", "vgg11", architectures.NAMES, "the network")
_WIDTH = flags.DEFINE_float("width", 1.0, "multiplies the network's channels")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "images a batch", lower_bound=2)
_IMAGE_SHAPE = flags.DEFINE_multi_integer("image_shape", [32, 32, 3], "height, width, channels")
_STEPS = flags.DEFINE_integer("steps", 5, "steps of every attack by gradients", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "timed runs of each variant", lower_bound=1)
_PEERS = flags.DEFINE_bool("peers", True, "whether to time other libraries too")
_GRID = flags.DEFINE_bool("grid", True, "whether to time the grid of rotations too")

_EPSILON = 1e-5  # pixels of a flow, or of values from 0 to 1: nothing is fooled
_ANGLES, _SHIFTS = 3, 2
_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
_CLASSES = 10


class Counted(keras.Model):
    """Runs a network, and counts how often Python does so: when a graph is traced, and when there is none."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.python_calls = []

    def call(self, images, training=None):
        self.python_calls.append(None)
        return self.network(images, training=training)


def compiled(function):
    """`function` of (images, labels) as one graph, compiled as the attacks are."""
    return tf.function(function, autograph=False, jit_compile=compat.jit_compile_on_this_machine())


def bare_passes(network, steps):
    """What FlowPGD asks of the model: two passes forward, and `steps` forward and back to the images."""

    def differentiate(count, images, labels):
        with tf.GradientTape() as tape:
            tape.watch(images)
            losses = fr.ops.per_example_loss(_LOSS, labels, network(images, training=False))
        # So that a pass needs the one before.
        return count + 1, images + 1e-12 * tape.gradient(losses, images), labels

    def passes(images, labels):
        before = network(images, training=False)
        state = (0, images, labels)
        _, images, _ = tf.while_loop(lambda count, *_: count < steps, differentiate, state, parallel_iterations=1)
        return before + network(images, training=False)

    return compiled(passes)


def forward_passes(network, passes):
    """`passes` passes forward."""

    def run(images, labels):
        def step(count, images):
            return count + 1, images + 1e-12 * tf.reduce_max(network(images, training=False))

        return tf.while_loop(lambda count, _: count < passes, step, (0, images), parallel_iterations=1)[1]

    return compiled(run)


def expect_all_passes(result, passes):
    """Raises RuntimeError unless our attack went all the way on every example."""
    fooled = int(tf.reduce_sum(tf.cast(result.success, tf.int32)))
    queries = sorted(set(result.queries.numpy().tolist()))
    if fooled or queries != [passes]:
        raise RuntimeError(f"Expected {passes} queries of every example. Received {queries}, and {fooled} fooled.")
    print(f"no example of {len(result.success)} was fooled, and each took all {passes} queries")


def print_traces(attack, model, images, labels):
    """Says how often Python runs the model for the same batch again, and for a smaller last one: 0, if compiled."""
    attack.run(images, labels, model=model)
    calls = []
    for size in (len(images), len(images) // 2):
        before = len(model.python_calls)
        attack.run(images[:size], labels[:size], model=model)
        calls.append(len(model.python_calls) - before)
    again, smaller = (f"traced again ({count} calls of the model)" if count else "not traced again" for count in calls)
    print(f"the same batch: {again}; a last batch of {len(images) // 2} images: {smaller}")


def waiting(function, images, labels):
    """A function that runs an attack on this batch of tensors, and waits for it."""

    def run():
        output = tf.nest.flatten(function(tf.constant(images), tf.constant(labels)))[0]
        return output.numpy()

    return run


def gradient_attacks(network, images, labels):
    """The attacks that go up a gradient: `{name: function that runs it}`."""
    steps = _STEPS.value
    model = Counted(network)
    attack = fr.attacks.FlowPGD(_EPSILON, steps=steps, loss=_LOSS)
    expect_all_passes(attack.run(images, labels, model=model), steps + 2)
    print_traces(attack, model, images, labels)
    runs = {
        "bare passes": waiting(bare_passes(network, steps), images, labels),
        "FlowPGD (flow)": waiting(functools.partial(attack.run, model=model), images, labels),
    }
    if has_peer("torch"):
        runs["PyTorch, the authors' loop (flow)"] = torch_flow_attack(network, images, labels)
    if has_peer("foolbox"):
        runs["Foolbox LinfPGD (pixel values)"] = foolbox_pgd(network, images, labels)
    if has_peer("art", "adversarial-robustness-toolbox"):
        runs["ART ProjectedGradientDescent (pixel values)"] = art_pgd(network, images, labels)
    return runs


def torch_flow_attack(network, images, labels):
    import torch

    from benchmarks.peers import torch_flow, torch_network

    converted = torch_network.from_keras(network)
    torch_network.expect_same_logits(network, converted, images)
    batch = torch_network.to_torch(images), torch.tensor(labels)
    epsilon = fr.normalized_from_pixels(_EPSILON, images.shape[1])
    return lambda: torch_flow.sign_ascent(converted, *batch, epsilon, _STEPS.value)


def foolbox_pgd(network, images, labels):
    import foolbox

    model = foolbox.TensorFlowModel(network, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(steps=_STEPS.value)
    images, labels = tf.constant(images), tf.constant(labels)
    return lambda: attack(model, images, labels, epsilons=_EPSILON)[0].numpy()


def art_classifier(network):
    from art.estimators.classification import TensorFlowV2Classifier

    shape = tuple(_IMAGE_SHAPE.value)
    return TensorFlowV2Classifier(network, _CLASSES, shape, loss_object=_LOSS, clip_values=(0, 1))


def art_pgd(network, images, labels):
    from art.attacks.evasion import ProjectedGradientDescent

    options = {"eps": _EPSILON, "eps_step": _EPSILON / _STEPS.value, "max_iter": _STEPS.value, "verbose": False}
    attack = ProjectedGradientDescent(art_classifier(network), batch_size=len(images), **options)
    return lambda: attack.generate(images, labels)


def grid_attacks(network, images, labels):
    """The grids of rotations and shifts: `{name: function that runs it}`."""
    points = _ANGLES * _SHIFTS**2
    options = {"angles": _ANGLES, "shifts": _SHIFTS, "max_angle": _EPSILON, "max_shift": _EPSILON}
    model = Counted(network)
    attack = fr.attacks.RotationTranslation(loss="margin", border="black", **options)
    expect_all_passes(attack.run(images, labels, model=model), points + 1)
    print_traces(attack, model, images, labels)
    runs = {
        "forward passes": waiting(forward_passes(network, points + 1), images, labels),
        "RotationTranslation": waiting(functools.partial(attack.run, model=model), images, labels),
    }
    if has_peer("foolbox"):
        runs["Foolbox SpatialAttack"] = foolbox_grid(network, images, labels)
    if has_peer("art", "adversarial-robustness-toolbox"):
        runs["ART SpatialTransformation"] = art_grid(network, images)
    return runs


def foolbox_grid(network, images, labels):
    import foolbox

    model = foolbox.TensorFlowModel(network, bounds=(0, 1))
    ranges = {"max_translation": _EPSILON, "max_rotation": _EPSILON}
    attack = foolbox.attacks.SpatialAttack(num_translations=_SHIFTS, num_rotations=_ANGLES, **ranges)
    images, labels = tf.constant(images), tf.constant(labels)
    return lambda: attack(model, images, labels)[0].numpy()


def art_grid(network, images):
    """Its shifts are whole pixels: it takes as many positions, further apart. Its passes hold one image each."""
    from art.attacks.evasion import SpatialTransformation

    ranges = {"max_translation": 100 / images.shape[1], "max_rotation": 1.0}
    counts = {"num_translations": _SHIFTS, "num_rotations": _ANGLES}
    classifier = art_classifier(network)
    # A new one each time: it would only repeat its first answer.
    return lambda: SpatialTransformation(classifier, **ranges, **counts, verbose=False).generate(images)


def has_peer(module, package=None):
    """Whether a peer is to be timed; says so where it is not installed."""
    installed = importlib.util.find_spec(module) is not None
    if _PEERS.value and not installed:
        print(f"{package or module} is not installed: left out")
    return _PEERS.value and installed


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def print_table(runs):
    """Times the variants in turns, and prints the fastest of each; the first is what the others are compared with."""
    for run in runs.values():
        run()
    rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(_ROUNDS.value)]
    fastest = {name: min(times[name] for times in rounds) for name in runs}
    base = next(iter(fastest))
    print(f"| attack | seconds | images/s | of {base} |\n| --- | ---: | ---: | ---: |")
    for name, time_taken in fastest.items():
        speed, ratio = _BATCH_SIZE.value / time_taken, time_taken / fastest[base]
        print(f"| {name} | {time_taken:.3f} | {speed:.1f} | {ratio:.2f} |", flush=True)


def main(_):
    logging.set_verbosity(logging.ERROR)
    keras.utils.set_random_seed(0)
    network = architectures.build(_ARCHITECTURE.value, tuple(_IMAGE_SHAPE.value), _CLASSES, width=_WIDTH.value)
    images = np.random.rand(_BATCH_SIZE.value, *_IMAGE_SHAPE.value).astype("float32")
    labels = np.argmax(network(images, training=False), axis=1)
    print(f"{_ARCHITECTURE.value}, width {_WIDTH.value}, batch {_BATCH_SIZE.value}, images {_IMAGE_SHAPE.value}, "
          f"TensorFlow {tf.__version__}, Keras {keras.__version__}, {_ROUNDS.value} rounds")  # fmt: skip
    print(f"\n{_STEPS.value} steps of ascent\n")
    print_table(gradient_attacks(network, images, labels))
    if _GRID.value:
        print(f"\n{_ANGLES} angles, {_SHIFTS} x {_SHIFTS} shifts\n")
        print_table(grid_attacks(network, images, labels))


if __name__ == "__main__":
    app.run(main)

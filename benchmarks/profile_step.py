r"""Shows where the time of a training step goes: TensorFlow's profiler, summed up by kind of operation.

    python -m benchmarks.profile_step --variant=plain --variant=analytic

The network and the variants are those of step_time.py, and so are the other flags. The seconds are those of all threads
together. --output keeps the trace, for TensorBoard's profile plugin.
"""

import collections
import os
import pathlib
import re
import tempfile

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import tensorflow as tf
from absl import app, flags
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import step_time

_VARIANTS = flags.DEFINE_multi_string(
    "variant", ["plain", "analytic"], "steps of step_time.py, the first to compare by"
)
_OUTPUT = flags.DEFINE_string("output", None, "where to keep the trace; nowhere by default")
_STEPS = flags.DEFINE_integer("steps", 3, "profiled steps", lower_bound=1)
_SHOWN = flags.DEFINE_integer("shown", 15, "kinds of operation to print", lower_bound=1)


def profile(variant, folder):
    """Writes the trace of some steps of a variant, after a first one that is not in it."""
    step = step_time.variants()[variant]()
    step()
    with tf.profiler.experimental.Profile(folder):
        for _ in range(_STEPS.value):
            step()


def seconds_by_kind(folder):
    """`{kind of operation: seconds a step}` of the trace in a folder."""
    (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
    totals = collections.Counter()
    for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
        for event in (event for line in plane.lines for event in line.events):
            # An operation's event is called "name of its node:kind"; other events are what surrounds them.
            node, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if node and "::" not in f"{node}:" and " " not in kind:
                totals[_plain_kind(kind)] += event.duration_ps * 1e-12 / _STEPS.value
    return totals


def _plain_kind(kind):
    """The kind of an operation without what TensorFlow adds when it rewrites a graph."""
    return re.sub("^_MklNative|^_Mkl|^_|Fused|WithBias$", "", kind)


def main(_):
    with tempfile.TemporaryDirectory() as scratch:
        totals = {}
        for variant in _VARIANTS.value:
            folder = os.path.join(_OUTPUT.value or scratch, variant.replace("/", "_"))
            profile(variant, folder)
            totals[variant] = seconds_by_kind(folder)
    first, last = totals[_VARIANTS.value[0]], totals[_VARIANTS.value[-1]]
    kinds = sorted(last, key=lambda kind: first[kind] - last[kind])[: _SHOWN.value]
    print("| operation |" + "".join(f" {variant} |" for variant in totals))
    print("| --- |" + " ---: |" * len(totals))
    for kind in kinds:
        print(f"| {kind} |" + "".join(f" {total[kind]:.3f} |" for total in totals.values()))
    print("| all |" + "".join(f" {sum(total.values()):.3f} |" for total in totals.values()))


if __name__ == "__main__":
    app.run(main)

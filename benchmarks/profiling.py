"""Where the time of a step goes: TensorFlow's profiler, summed up by kind of operation."""

import collections
import os
import pathlib
import re
import tempfile

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2


def table(steps, count, shown, output=None):
    """The operations whose time grows most from the first to the last kind of step, in Markdown.

    Args:
      steps: `{kind: function that takes a step}`; each was called before, so that it is not traced here.
      count: profiled steps of each.
      shown: operations in the table.
      output: where to keep the traces, for TensorBoard's profile plugin; `None` for nowhere.

    Returns:
      Seconds a step, of all threads together.
    """
    with tempfile.TemporaryDirectory() as scratch:
        totals = {
            kind: _seconds(step, count, os.path.join(output or scratch, kind.replace("/", "_")))
            for kind, step in steps.items()
        }
    first, *_, last = totals.values()
    operations = sorted(last, key=lambda operation: first[operation] - last[operation])[:shown]
    lines = ["| operation |" + "".join(f" {kind} |" for kind in totals), "| --- |" + " ---: |" * len(totals)]
    for operation in operations:
        lines.append(f"| {operation} |" + "".join(f" {total[operation]:.3f} |" for total in totals.values()))
    lines.append("| all |" + "".join(f" {sum(total.values()):.3f} |" for total in totals.values()))
    return "\n".join(lines)


def _seconds(step, count, folder):
    """`{operation: seconds a step}`."""
    with tf.profiler.experimental.Profile(folder):
        for _ in range(count):
            step()
    (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
    totals = collections.Counter()
    for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
        for event in (event for line in plane.lines for event in line.events):
            # An operation's event is called "name of its node:kind"; other events are what surrounds them.
            node, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
            if node and "::" not in f"{node}:" and " " not in kind:
                totals[_plain_kind(kind)] += event.duration_ps * 1e-12 / count
    return totals


def _plain_kind(kind):
    """The kind of an operation without what TensorFlow adds when it rewrites a graph."""
    return re.sub("^_MklNative|^_Mkl|^_|Fused|WithBias$", "", kind)

r"""Shows where the time of a training step goes: TensorFlow's profiler, summed up by kind of operation.

    python -m benchmarks.profile_step --variant=plain --variant=analytic

The network and the variants are those of step_time.py, and so are the other flags. The seconds are those of all threads
together. --output keeps the trace, for TensorBoard's profile plugin.
"""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from absl import app, flags

from benchmarks import profiling, step_time

_VARIANTS = flags.DEFINE_multi_string(
    "variant", ["plain", "analytic"], "steps of step_time.py, the first to compare by"
)
_OUTPUT = flags.DEFINE_string("output", None, "where to keep the trace; nowhere by default")
_STEPS = flags.DEFINE_integer("steps", 3, "profiled steps", lower_bound=1)
_SHOWN = flags.DEFINE_integer("shown", 15, "kinds of operation to print", lower_bound=1)


def traced(variant):
    """A step that has been taken once."""
    step = step_time.variants()[variant]()
    step()
    return step


def main(_):
    steps = {variant: traced(variant) for variant in _VARIANTS.value}
    print(profiling.table(steps, _STEPS.value, _SHOWN.value, _OUTPUT.value))


if __name__ == "__main__":
    app.run(main)

r"""Times the programs of export_steps.py on whatever device JAX finds, and compares their answers with TensorFlow's.

    python -m benchmarks.xla.time_steps --programs=steps

Needs JAX, NumPy and absl-py. The programs take turns, and the time is that of the fastest round. Their floor is the time
that their floating-point operations, as XLA counts them, take at the speed of one large product of float32 matrices on
the same device.
"""

import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks.xla.program import Program

_PROGRAMS = flags.DEFINE_string("programs", None, "a folder that export_steps.py wrote", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "timed rounds of each program", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10, "steps in a round", lower_bound=1)
_MATRIX = flags.DEFINE_integer("matrix", 4096, "rows and columns of the product", lower_bound=1)


def seconds(function, times):
    """Of one call, on average."""
    start = time.perf_counter()
    for _ in range(times):
        results = function()
    jax.block_until_ready(results)
    return (time.perf_counter() - start) / times


def matrix_flops():
    """Floating-point operations a second of a product of matrices."""
    size = _MATRIX.value
    matrix = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    seconds(lambda: product(matrix, matrix), 1)
    return 2 * size**3 / min(seconds(lambda: product(matrix, matrix), 3) for _ in range(_ROUNDS.value))


def difference(answers, expected):
    """The largest relative difference from TensorFlow's answers."""
    return max(abs(float(answers[name]) - value) / max(abs(value), 1e-6) for name, value in expected.items())


def main(_):
    folder = pathlib.Path(_PROGRAMS.value)
    with np.load(folder / "batch.npz") as arrays:
        batch = {name: jax.device_put(array) for name, array in arrays.items()}
    steps, differences = {}, {}
    for path in sorted(folder.glob("*/program.json")):
        program, name = Program(path.parent), path.parent.name
        differences[name] = difference(program(**batch), json.loads((path.parent / "expected.json").read_text()))
        steps[name] = program
    times = {name: [] for name in steps}
    for _ in range(_ROUNDS.value):
        for name, program in steps.items():
            times[name].append(seconds(lambda program=program: program(**batch), _STEPS.value))
    fastest, speed = {name: min(values) for name, values in times.items()}, matrix_flops()
    device, policy = jax.local_devices()[0], next(iter(steps.values())).facts["policy"]
    print(f"{device.device_kind} ({device.platform}), jaxlib {jax.lib.__version__}, {policy}, batch {len(batch['labels'])}; "
          f"product of float32 matrices: {speed / 1e12:.2f} TFLOP/s\n")  # fmt: skip
    flops = {name: program.flops for name, program in steps.items()}
    print("| step | ms | of plain | GFLOP | of plain's | time of floor | difference from TensorFlow |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, taken in fastest.items():
        print(f"| {name} | {1e3 * taken:.2f} | {taken / fastest['plain']:.2f} | {flops[name] / 1e9:.1f} | "
              f"{flops[name] / flops['plain']:.2f} | {taken * speed / flops[name]:.1f} | {differences[name]:.0e} |")  # fmt: skip


if __name__ == "__main__":
    app.run(main)

"""Runs an XLA program that exporting.py wrote, on whatever device JAX finds. Needs JAX and NumPy only."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax.interpreters import mlir
from jaxlib import xla_client
from jaxlib.mlir import ir

jax.config.update("jax_enable_x64", True)


class Program:
    """A compiled program with its state.

    Calling it takes its inputs by name, replaces the state by the new one, and returns its outputs by name, as
    arrays on the device.

    Args:
      folder: where `exporting.write_program` wrote it.

    Attributes:
      facts: what program.json says.
      state: `{name: array on the device}`.
    """

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.facts = json.loads((folder / "program.json").read_text())
        self._module = _module_of((folder / "program.hlo").read_bytes())
        self._device = jax.local_devices()[0]
        self._executable = self._compiled()
        self.state = {}
        self.load_state(folder / "state.npz")

    def __call__(self, **inputs):
        arguments = [self._put(inputs[name], dtype) for name, (_, dtype) in self.facts["inputs"].items()]
        arguments += [self.state[name] for name in self.facts["state"]]
        results = self._executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
        results = [result for (result,) in results]
        for position, name in self.facts["new_state"].items():
            self.state[name] = results[int(position)]
        return dict(zip(self.facts["outputs"], results))

    @property
    def flops(self):
        """Floating-point operations of one call, as XLA counts them."""
        # Not those of the program as it was written, which holds results that nothing uses.
        used = jaxlib._jax.mlir.mlir_module_to_xla_computation(self._module, use_tuple_args=False, return_tuple=True)
        cpu = jax.local_devices(backend="cpu")[0].client
        return jaxlib._jax.hlo_module_cost_analysis(cpu, used.get_hlo_module())["flops"]

    def load_state(self, path):
        """Reads those of the variables that are in a file."""
        with np.load(path) as arrays:
            self.state.update({name: self._put(arrays[name]) for name in self.facts["state"] if name in arrays})

    def save_state(self, path):
        """Writes the state at once: a kill leaves the old file."""
        with open(f"{path}.part", "wb") as file:
            np.savez(file, **{name: np.asarray(array) for name, array in self.state.items()})
        os.replace(f"{path}.part", path)

    def reset(self, kind):
        """Sets the variables of one kind to zero."""
        for name, array in self.state.items():
            if name.startswith(kind):
                self.state[name] = self._put(np.zeros(array.shape, array.dtype))

    def _compiled(self):
        devices = jaxlib._jax.DeviceList((self._device,))
        return self._device.client.compile_and_load(self._module, devices, xla_client.CompileOptions())

    def _put(self, array, dtype=None):
        # What is on the device already stays there.
        return jax.device_put(jnp.asarray(array, dtype), self._device)


def _module_of(program):
    """A program as a compiler for any device takes it: one for a GPU does not know copies, which change nothing."""
    module = jaxlib._jax.mlir.xla_computation_to_mlir_module(xla_client.XlaComputation(program))
    copies = []

    def visit(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    with mlir.make_ir_context():
        parsed = ir.Module.parse(module)
        parsed.operation.walk(visit)
        for copy in copies:
            copy.result.replace_all_uses_with(copy.operands[0])
            copy.erase()
        return str(parsed)

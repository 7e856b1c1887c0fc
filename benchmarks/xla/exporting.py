"""Writes a function that TensorFlow compiles as an XLA program, with the variables that it reads and assigns."""

import json
import os
import re

import numpy as np
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.wrapped import classifier_of


class CompileTimeConstants(ValueError):
    """XLA would compile a function anew for each value of some of its inputs."""


def write_program(function, inputs, named, folder, left_out=(), **facts):
    """Writes `program.hlo`, `state.npz` and `program.json` into a folder.

    Args:
      function: tensors to a dict of tensors.
      inputs: `{name of an argument: tf.TensorSpec}`, in the function's order.
      named: `{name: tf.Variable}`; the other variables that the function captures are numbered.
      folder: where to; it is made.
      left_out: names of variables whose values are not written: they are given later.
      **facts: more for `program.json`, as plain values.

    Raises:
      CompileTimeConstants: if XLA compiles the values of some inputs or variables in.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)
    graph = compiled.get_concrete_function(*inputs.values())
    compiler_ir = compiled.experimental_get_compiler_ir(*map(_zeros, inputs.values()))
    state = _state(graph, {id(variable.handle): name for name, variable in named.items()})
    hlo_text = compiler_ir(stage="hlo")
    _expect_parameters(hlo_text, len(inputs) + len(state))
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "program.hlo"), "wb") as file:
        file.write(compiler_ir(stage="hlo_serialized"))
    written = {name: value for name, value in state.items() if name not in left_out}
    np.savez(os.path.join(folder, "state.npz"), **written)
    program = {
        "inputs": {name: [list(spec.shape), spec.dtype.name] for name, spec in inputs.items()},
        "state": list(state),
        "outputs": sorted(graph.structured_outputs),
        "new_state": _assignments(hlo_text, len(inputs), list(state)),
        **facts,
    }
    with open(os.path.join(folder, "program.json"), "w", encoding="utf-8") as file:
        json.dump(program, file, indent=1)


def build_variables(model, image_shape):
    """Makes all variables of a compiled model that training needs, and changes no weight.

    Returns:
      Those that have a meaning outside, by name: the classifier's weights, and the state of the metrics.
    """
    model.test_on_batch(np.zeros(image_shape, "float32"), np.zeros(image_shape[:1], "int64"))
    model.reset_metrics()
    model.optimizer.build(model.trainable_variables)
    kinds = {
        "weight": classifier_of(model).weights,
        "metric": [variable for metric in model.metrics for variable in metric.variables],
    }
    return {
        f"{kind}_{number}": variable
        for kind, variables in kinds.items()
        for number, variable in enumerate(compat.tf_variables(variables))
    }


def write_data(batches, folder):
    """Writes batches of images and labels as they are stored, each as a part."""
    os.makedirs(folder, exist_ok=True)
    for number, (images, labels) in enumerate(batches.as_numpy_iterator()):
        raw = np.round(images * 255).astype("uint8")
        np.savez_compressed(os.path.join(folder, f"part{number}.npz"), images=raw, labels=labels)


def _zeros(spec):
    return tf.zeros(spec.shape, spec.dtype)


def _state(graph, names):
    """`{name: value}` of what the program takes after its inputs, in its order."""
    return {
        names.get(id(captured), f"other_{position}"): _value(captured)
        for position, captured in enumerate(graph.captured_inputs)
    }


def _value(captured):
    """Of a constant, or of a variable by its handle: a graph does not list every variable that it captures."""
    if captured.dtype != tf.resource:
        return captured.numpy()
    (kind,) = captured._handle_data.shape_and_type
    return tf.raw_ops.ReadVariableOp(resource=captured, dtype=tf.as_dtype(kind.dtype)).numpy()


def _expect_parameters(hlo_text, expected):
    (layout,) = re.findall(r"entry_computation_layout=\{\((.*?)\)->", hlo_text)
    parameters = layout.count("[")
    if parameters != expected:
        raise CompileTimeConstants(
            f"Expected a program that takes {expected} inputs and variables. Received one that takes {parameters}: "
            "the values of the others are compiled in."
        )


def _assignments(hlo_text, inputs, state):
    """`{position of an output: name of the variable it is the new value of}`, from the program's first line."""
    pairs = re.findall(r"\{(\d+)\}: \((\d+), \{\}", hlo_text.split("entry_computation_layout", 1)[0])
    return {output: state[int(parameter) - inputs] for output, parameter in pairs}

r"""Writes training steps and an attack's step as XLA programs, to be timed on a machine without TensorFlow.

    python -m benchmarks.xla.export_steps --output=steps
    python -m benchmarks.xla.export_steps --output=mixed --policy=mixed_bfloat16

The network and the steps are those of step_time.py, and so are the other flags. Beside each program lies a batch, and
what TensorFlow's graph makes of it, which time_steps.py compares.
"""

import json
import os

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_flowreg as fr
from benchmarks import step_time
from benchmarks.xla import exporting

_OUTPUT = flags.DEFINE_string("output", None, "a folder", required=True)
_POLICY = flags.DEFINE_enum("policy", "float32", ["float32", "mixed_float16", "mixed_bfloat16"], "of the numbers")
_TIMED = ("plain", "analytic", "tape", "tfa_tape")
_EPSILON = 1.0  # pixels


def functions():
    """`{name: (function of a batch, its model)}`."""
    found = {}
    for name, options in step_time.penalties().items():
        if name in _TIMED:
            model = step_time.compiled_model(**options)
            found[name] = (training_step(model), model)
    model = step_time.compiled_model()
    found["attack_step"] = (attack_step(model), model)
    return found


def training_step(model):
    return lambda images, labels: dict(model.train_step((images, labels)))


def attack_step(model):
    """`FlowPGD` in one step: besides that, it queries the model on the clean and on the last images."""
    attack = fr.attacks.FlowPGD(_EPSILON, steps=1)

    def run(images, labels):
        result = attack.run(images, labels, model=model, stop_when_fooled=False)
        return {"loss": tf.reduce_mean(result.loss), "success": tf.reduce_mean(tf.cast(result.success, tf.float32))}

    return run


def write(name, function, model, images, labels):
    """Writes a program, and what it has to answer; changes the model."""
    folder = os.path.join(_OUTPUT.value, name)
    inputs = {"images": tf.TensorSpec(images.shape, images.dtype), "labels": tf.TensorSpec(labels.shape, labels.dtype)}
    named = exporting.build_variables(model, images.shape)
    exporting.write_program(function, inputs, named, folder, policy=_POLICY.value)
    expected = tf.function(function, autograph=False)(tf.constant(images), tf.constant(labels))
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump({name: float(value) for name, value in expected.items()}, file)


def main(_):
    keras.mixed_precision.set_global_policy(_POLICY.value)
    images, labels = step_time.batch()
    for name, (function, model) in functions().items():
        print(f"Compiling {name}", flush=True)
        try:
            write(name, function, model, images, labels)
        except ValueError as error:  # Of what XLA cannot compile, or not once and for all.
            print(f"Left out {name}. {error}")
    np.savez(os.path.join(_OUTPUT.value, "batch.npz"), images=images, labels=labels)


if __name__ == "__main__":
    app.run(main)

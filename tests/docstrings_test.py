"""Tests that every public class and function has an example in its docstring, and that the examples run."""

import inspect
import os
import re

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from tests import testing

matplotlib.use("Agg")
MODULES = (
    fr,
    fr.attacks,
    fr.balls,
    fr.batches,
    fr.callbacks,
    fr.certification,
    fr.evaluation,
    fr.files,
    fr.layers,
    fr.ops,
    fr.perturbations,
    fr.pictures,
    fr.untrusted,
)
# Some of whose parts have an example.
TOOLS = (fr.attacks.search, fr.checks)


def public_names(module):
    """What a module says is public, or else what it defines."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return getattr(module, "__all__", [name for name in own if not name.startswith("_")])


def public_things():
    """`{name: class or function}`, each once."""
    things = {}
    for module in (*MODULES, *TOOLS):
        for name in public_names(module):
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                things[f"{thing.__module__}.{name}"] = thing
    return things


def examples(thing):
    return re.findall(r"```python\n(.*?)```", inspect.getdoc(thing) or "", re.DOTALL)


class DocstringsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*sorted(public_things()))
    def test_the_examples_run(self, name):
        blocks = examples(public_things()[name])
        if not name.startswith(tuple(f"{module.__name__}." for module in TOOLS)):
            self.assertNotEmpty(blocks, f"Expected an example in the docstring of {name}.")
        images, labels = testing.data(4)
        model = testing.network()
        model.compile("sgd", testing.cross_entropy())
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.get_temp_dir())
        for block in blocks:
            modules = {"fr": fr, "keras": keras, "np": np, "tf": tf}
            exec(block, {**modules, "model": model, "images": images, "labels": labels})


if __name__ == "__main__":
    tf.test.main()

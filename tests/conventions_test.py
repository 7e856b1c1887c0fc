"""Tests of the conventions that hold the package together."""

import ast
import inspect
import pathlib

import keras
import tensorflow as tf
from absl.testing import parameterized

import keras_flowreg as fr
from keras_flowreg import balls
from keras_flowreg.ops.losses import SmoothedSparseCategoricalCrossentropy
from keras_flowreg.perturbations import TapeLinearized
from tests import testing

PACKAGE = pathlib.Path(fr.__file__).parent
# From the top floor to the ground: a module imports only from lower floors, or its own.
FLOORS = (
    ("__main__",),
    ("commands",),
    ("__init__",),
    ("export", "saved_classifier"),
    ("untrusted",),
    ("model_card",),
    ("evaluation",),
    ("callbacks",),
    ("pictures",),
    ("models",),
    ("compilation", "guard", "scales", "step_variables"),
    ("binary", "layers"),
    ("attacks",),
    ("regularizers", "first_order", "checks"),
    ("certification",),
    ("augmentation", "descriptions", "gradients"),
    ("second_derivatives",),
    ("perturbations",),
    ("balls",),
    ("batches",),
    ("states",),
    ("ops",),
    ("files", "wrapped", "reaching_out"),
    ("compat",),
    ("keras_2_draws", "keras_3_symbols"),
    ("types",),
)


def modules():
    return sorted(path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))


def floor(part):
    return next(level for level, names in enumerate(FLOORS) if part in names)


def imported_parts(module):
    """The floors of this package that a module's imports name."""
    tree = ast.parse((PACKAGE / module).with_suffix(".py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "keras_flowreg":
            path = node.module.split(".")[1:]
            yield from [path[0]] if path else [alias.name for alias in node.names]


def public_functions(node):
    """The functions and methods whose names are public, in a module or a class; constructors and calls too."""
    for part in node.body:
        is_public = not getattr(part, "name", "_").startswith("_")
        if isinstance(part, ast.ClassDef):
            yield from public_functions(part)
        elif isinstance(part, ast.FunctionDef) and (is_public or part.name in ("__init__", "__call__")):
            yield part


class ImportsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*map(str, modules()))
    def test_only_downward(self, module):
        own = floor(module.split("/")[0])
        for part in imported_parts(module):
            self.assertGreaterEqual(floor(part), own, f"{module} imports {part}")

    def test_files_are_short(self):
        for module in modules():
            lines = (PACKAGE / module).with_suffix(".py").read_text(encoding="utf-8").count("\n")
            self.assertLessEqual(lines, 300, module)

    def test_public_signatures_are_annotated(self):
        for module in modules():
            for function in public_functions(ast.parse((PACKAGE / module).with_suffix(".py").read_text())):
                given = function.args
                arguments = [*given.args, *given.kwonlyargs, given.vararg, given.kwarg]
                bare = [a.arg for a in arguments if a and a.arg not in ("self", "cls") and a.annotation is None]
                self.assertEmpty(bare, f"{module}.{function.name}")
                self.assertTrue(function.returns or function.name == "__init__", f"{module}.{function.name}")

    def test_only_compat_asks_for_versions(self):
        for module in modules():
            if str(module) not in ("compat", "__init__"):
                text = (PACKAGE / module).with_suffix(".py").read_text()
                self.assertNotIn("__version__", text, module)
                self.assertNotIn("import tensorflow_addons", text, module)

    def test_public_names_exist_and_are_documented(self):
        for module in (fr, fr.ops, fr.perturbations, fr.attacks):
            for name in module.__all__:
                self.assertTrue(inspect.getdoc(getattr(module, name)), name)


def attacks():
    """One of every class."""
    for name in fr.attacks.__all__:
        cls = getattr(fr.attacks, name)
        if isinstance(cls, type) and issubclass(cls, keras.layers.Layer) and cls is not fr.attacks.Attack:
            required = {"epsilon": 0.1, "perturbation": fr.perturbations.Flow()}
            accepted = inspect.signature(cls.__init__).parameters
            yield cls(**{key: value for key, value in required.items() if key in accepted})


def configurables():
    """One object of every class that has a configuration."""
    model = testing.network()
    return [
        fr.FlowGradientRegularizer(1.0),
        fr.InputGradientRegularizer(1.0),
        fr.FlowConsistencyRegularizer(1.0),
        fr.IntervalBoundRegularizer(1.0),
        fr.GradientRegularizer(fr.perturbations.Affine(), 1.0),
        fr.perturbations.Flow(),
        fr.perturbations.Additive(),
        fr.perturbations.Affine(),
        fr.layers.DenseImageWarp(),
        *attacks(),
        fr.ops.MarginLoss(),
        fr.ops.LogOddsLoss(),
        SmoothedSparseCategoricalCrossentropy(0.1),
        fr.perturbations.SmoothFlow(),
        TapeLinearized(fr.perturbations.Flow()),
        fr.FlowRegularizedModel(model),
        *(balls.get(name, 1.0) for name in balls.NORMS),
    ]


class ConfigurationTest(tf.test.TestCase):
    def test_every_argument_is_in_the_configuration(self):
        for thing in configurables():
            accepted = set()
            for kind in type(thing).__mro__:
                if kind.__module__.startswith("keras_flowreg") and "__init__" in vars(kind):
                    parameters = inspect.signature(kind.__init__).parameters.values()
                    accepted |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
                    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                        break
            self.assertContainsSubset(accepted - {"self", "perturbation"}, thing.get_config(), type(thing))

    def test_every_class_is_found_by_its_registered_name(self):
        for thing in configurables():
            name = keras.saving.get_registered_name(type(thing))
            self.assertEqual(name, f"keras_flowreg>{type(thing).__name__}")


if __name__ == "__main__":
    tf.test.main()

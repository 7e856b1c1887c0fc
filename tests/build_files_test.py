"""Tests that Bazel knows every module, and every test as a test."""

import pathlib

import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("keras_flowreg", "examples", "tests", "benchmarks")


def glob(patterns, exclude=()):
    """Bazel's: paths of files, as text."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    left_out = {path for pattern in exclude for path in ROOT.glob(pattern)}
    return sorted(str(path.relative_to(ROOT)) for path in found - left_out)


def targets():
    """`{name: sources}` of each kind of rule in the BUILD file."""
    rules = {"py_library": {}, "py_binary": {}, "py_test": {}, "filegroup": {}}

    def rule(kind):
        return lambda *, name, srcs, **_: rules[kind].update({name: srcs})

    names = {kind: rule(kind) for kind in rules}
    exec((ROOT / "BUILD").read_text(encoding="utf-8"), {**names, "glob": glob, "load": lambda *_: None})
    return rules


class BuildFileTest(tf.test.TestCase):
    def test_every_module_and_every_test(self):
        rules = targets()
        known = {source for kind in rules.values() for sources in kind.values() for source in sources}
        modules = {str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
        self.assertEqual(modules - known, set())
        tests = {module for module in modules if module.endswith("_test.py")}
        self.assertEqual({f"{name}.py" for name in rules["py_test"]}, tests)
        self.assertNotEmpty(rules["filegroup"]["texts"])

    def test_one_file(self):
        self.assertEqual([path for folder in FOLDERS for path in (ROOT / folder).rglob("BUILD")], [])


if __name__ == "__main__":
    tf.test.main()

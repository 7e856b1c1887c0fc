"""Tests that every module has a Bazel target, whose dependencies are its imports."""

import ast
import pathlib

import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("keras_flowreg", "examples", "tests", "benchmarks")
IMPORT_ROOTS = (ROOT, ROOT / "examples")


def targets():
    """`{source: [{labels of its dependencies} of each target]}` of all BUILD files."""
    found = {}
    for build in ROOT.rglob("BUILD"):
        if build.relative_to(ROOT).parts[0] not in FOLDERS:
            continue

        def rule(*, srcs, deps=(), build=build, **_):
            sources = [str((build.parent / source).relative_to(ROOT)) for source in srcs]
            for source in sources:
                found.setdefault(source, []).append({absolute(dep, build) for dep in deps})

        def absolute(dep, build):
            folder, _, name = dep.rpartition(":") if ":" in dep else (dep, "", dep.split("/")[-1])
            return f"{folder or '//' + str(build.parent.relative_to(ROOT))}:{name}"

        rules = dict.fromkeys(("py_library", "py_test", "py_binary"), rule)
        exec(build.read_text(), {**rules, "load": lambda *_: None, "exports_files": lambda *_: None})
    return found


def label(path):
    folder = path.parent.relative_to(ROOT)
    if path == ROOT / "tests" / "testing.py":
        return "//tests:models_testing"
    return f"//{folder}:{folder.name if path.stem == '__init__' else path.stem}"


def imported_files(path):
    """The files of this repository that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from _files(node.module, [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name, [None])


def _files(module, names):
    for root in IMPORT_ROOTS:
        place = root / module.replace(".", "/")
        if place.with_suffix(".py").exists():
            yield place.with_suffix(".py")
        elif (place / "__init__.py").exists():
            for name in names:
                inner = [place / f"{name}.py", place / str(name) / "__init__.py"]
                yield next(filter(pathlib.Path.exists, inner), place / "__init__.py")


class BuildFilesTest(tf.test.TestCase):
    def test_every_module_has_a_target_with_its_imports(self):
        known = targets()
        for folder in FOLDERS:
            for path in (ROOT / folder).rglob("*.py"):
                source = str(path.relative_to(ROOT))
                if source == "tests/__init__.py":
                    continue
                self.assertIn(source, known)
                expected = {label(file) for file in imported_files(path) if file != path}
                for dependencies in known[source]:
                    self.assertEqual(dependencies, expected, source)


if __name__ == "__main__":
    tf.test.main()

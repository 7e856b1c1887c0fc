"""Installs keras_flowreg: `pip install .[addons]` or `pip install .[keras3]`."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent


def read(path):
    """The text of a file of this repository, or "" if it is absent."""
    path = ROOT / path
    return path.read_text(encoding="utf-8") if path.exists() else ""


def version():
    """`__version__`, read as text: importing it would need TensorFlow."""
    source = read("keras_flowreg/__init__.py")
    match = re.search(r'^__version__ = ["\'](.+?)["\']', source, re.MULTILINE)
    if not match:
        raise RuntimeError('Expected a line `__version__ = "..."` in keras_flowreg/__init__.py. Received none.')
    return match.group(1)


EXTRAS = {
    # The main stack: Keras 2 with TensorFlow Addons, which ends at 2.15.
    "addons": [
        "tensorflow>=2.15,<2.16",
        "tensorflow-addons>=0.23,<0.24",
        # Newer ones need protobuf 5, and TensorFlow 2.15 holds protobuf 4:
        # `import tensorflow_datasets` would fail.
        "tensorflow-metadata<1.17",
    ],
    "keras3": [
        "tensorflow>=2.16",
        "keras>=3",
    ],
    "examples": [
        "absl-py",
        # tensorflow-datasets imports it to prepare a data set, without
        # asking for it.
        "importlib_resources",
        "matplotlib",
        # benchmarks/first_call.py
        "psutil",
        "requests",
        # tensorflow-hub imports pkg_resources, which newer ones lack.
        "setuptools<82",
        "tensorflow-datasets",
        "tensorflow-hub",
    ],
    # examples/evaluate_on_cluster.py
    "cluster": ["distributed"],
    # What scripts/docs runs.
    "docs": [
        "mkdocs<2",
        "mkdocs-material",
        "mkdocstrings-python",
        "ruff",
    ],
    # What scripts/lint and scripts/package run.
    "lint": [
        "build",
        "mypy",
        "pre-commit",
        "ruff",
    ],
    "peers": [
        "adversarial-robustness-toolbox",
        "foolbox",
        "torch",
    ],
    "test": [
        "absl-py",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "tensorboard",
    ],
    # Runs the programs of benchmarks/xla.
    "xla": [
        "absl-py",
        "jax; python_version >= '3.11'",
    ],
}

setup(
    name="keras_flowreg",
    version=version(),
    description=("Flow-gradient regularization, spatial attacks and adversarial training for Keras models"),
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["keras_flowreg", "keras_flowreg.*"]),
    package_data={"keras_flowreg": ["py.typed", "commands/digits/*"]},
    entry_points={"console_scripts": ["keras-flowreg=keras_flowreg.__main__:main"]},
    python_requires=">=3.9",
    # TensorFlow comes with one of the two stacks, as an extra.
    install_requires=["numpy", "scipy"],
    extras_require=EXTRAS,
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)

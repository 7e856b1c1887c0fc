"""Tests that the Python of README and of the documentation runs as it stands, and that the paths in the pages exist."""

import os
import pathlib
import re
import shutil

import keras
import tensorflow as tf
from absl.testing import parameterized

from tests import testing

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def pages_with_code():
    """Without those that have a test of their own: tests/scaling_test.py, and tutorial_test.py."""
    others = {DOCS / "scaling.md", *(DOCS / "tutorials").iterdir()}
    return [page for page in PAGES if blocks(page) and page not in others]


class PagesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(str(page.relative_to(ROOT)) for page in pages_with_code())
    def test_python_examples(self, page):
        images, labels = testing.data(16)
        classifier = testing.network(keras.layers.BatchNormalization(), keras.layers.MaxPooling2D())
        classifier.compile("sgd", testing.cross_entropy())
        names = {"classifier": classifier, "images": images, "labels": labels}
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.get_temp_dir())
        entry = pathlib.Path("leaderboard", "digits", "flow_gradient")
        shutil.copytree(ROOT / entry, entry, dirs_exist_ok=True)
        for block in blocks(ROOT / page):
            exec(block, names)
        if page == "README.md":
            self.assertEqual(int(names["model"].optimizer.iterations), 16)

    @parameterized.parameters(str(page.relative_to(ROOT)) for page in PAGES)
    def test_local_links_and_scripts_exist(self, page):
        text = (ROOT / page).read_text(encoding="utf-8")
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", prose) if not link.startswith("http")]
        for link in links:
            self.assertTrue(((ROOT / page).parent / link).exists(), link)
        scripts = re.findall(r"(?:examples|benchmarks|scripts|tests)/\w+(?:\.py)?", text)
        modules = [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (benchmarks[\w.]+)", text)]
        for path in {*scripts, *modules}:
            self.assertTrue((ROOT / path).exists(), path)

    def test_the_readme_is_short(self):
        self.assertLessEqual((ROOT / "README.md").read_text(encoding="utf-8").count("\n"), 120)


if __name__ == "__main__":
    tf.test.main()

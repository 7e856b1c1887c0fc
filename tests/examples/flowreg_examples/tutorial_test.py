"""Tests that the tutorials run, in a short form, and that their pages are of the scripts as they are."""

from tests import virtual_devices  # (first: it divides the CPU before TensorFlow starts)

import pathlib  # isort: skip
import re
from unittest import mock

import matplotlib
import tensorflow as tf
from absl.testing import parameterized

from flowreg_examples import tutorial

matplotlib.use("Agg")
FOLDER = pathlib.Path(__file__).resolve().parents[3] / "docs" / "tutorials"
SHORT = {"epochs": 1, "train_size": 128, "pictures_per_class": 24, "examples": 16}
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


def read(name):
    return tutorial.cells((FOLDER / f"{name}.py").read_text(encoding="utf-8"))


class TutorialsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*SCRIPTS)
    def test_runs_in_short(self, name):
        replicas = virtual_devices.two_replicas()
        with mock.patch.object(tf.distribute, "MirroredStrategy", return_value=replicas):
            outputs, names = tutorial.run(read(name), SHORT)
        self.assertEqual(names["epochs"], 1)
        self.assertTrue(any(output and output.words for output in outputs))

    @parameterized.parameters(*SCRIPTS)
    def test_the_page_is_of_the_script(self, name):
        page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        code = re.findall(r"```python\n(.*?)\n```", page, re.DOTALL)
        self.assertEqual(code, [cell.text for cell in read(name) if cell.kind != "markdown"])
        for cell in read(name):
            self.assertIn(cell.text, page)
        for picture in re.findall(r"\]\(([^)]+\.png)\)", page):
            self.assertTrue((FOLDER / picture).exists(), picture)


class TutorialTest(tf.test.TestCase):
    SCRIPT = '# %% [markdown]\n# # Title\n#\n# Words.\n\n# %% tags=["parameters"]\nsize = 5\n\n# %%\nprint(size + 1)\n'

    def test_cells_run_and_page(self):
        cells = tutorial.cells(self.SCRIPT)
        expected = [("markdown", "# Title\n\nWords."), ("parameters", "size = 5"), ("code", "print(size + 1)")]
        self.assertEqual(cells, [tutorial.Cell(*cell) for cell in expected])
        outputs, names = tutorial.run(cells)
        self.assertEqual((outputs[2].words, names["size"]), ("6", 5))
        outputs, names = tutorial.run(cells, {"size": 1, "unused": 2})
        self.assertEqual((outputs[2].words, names["size"]), ("2", 1))
        page = tutorial.page("a.py", cells, outputs, [[], [], ["a.png"]])
        self.assertStartsWith(page, "# Title\n\nWords.\n\n```python\nsize = 5\n```\n\n")
        self.assertIn("```python\nprint(size + 1)\n```\n\n```text\n2\n```\n\n![print(size + 1)](a.png)\n\n", page)
        self.assertIn("(a.py)", page)

    def test_a_page_of_others_is_left_alone(self):
        path = pathlib.Path(self.get_temp_dir(), "notes.md")
        tutorial.expect_page(path)
        path.write_text(tutorial.page("a.py", [], [], []))
        tutorial.expect_page(path)
        path.write_text("# Notes")
        with self.assertRaisesRegex(ValueError, "Expected .*notes.md to be new, or the page of a tutorial"):
            tutorial.expect_page(path)


if __name__ == "__main__":
    tf.test.main()

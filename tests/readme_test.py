"""Tests that the README's Python runs as it stands."""

import pathlib
import re

import tensorflow as tf

from tests import models_test

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


class ReadmeTest(tf.test.TestCase):
    def test_python_example(self):
        images, labels = models_test.data(16)
        names = {"classifier": models_test.network(), "images": images, "labels": labels}
        (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
        exec(example, names)
        self.assertEqual(names["adversarial_images"].shape, images.shape)
        self.assertEqual(int(names["model"].optimizer.iterations), 16)

    def test_local_links_and_scripts_exist(self):
        text = README.read_text(encoding="utf-8")
        links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
        scripts = re.findall(r"(?:examples|benchmarks|scripts)/\w+(?:\.py)?", text)
        for path in {*links, *scripts}:
            self.assertTrue((README.parent / path).exists(), path)


if __name__ == "__main__":
    tf.test.main()

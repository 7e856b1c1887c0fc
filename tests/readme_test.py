"""Tests that the README's Python runs as it stands, and that the paths in it and in CONTRIBUTING exist."""

import pathlib
import re

import keras
import tensorflow as tf
from absl.testing import parameterized

from tests import testing

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


class ReadmeTest(tf.test.TestCase, parameterized.TestCase):
    def test_python_examples(self):
        images, labels = testing.data(16)
        classifier = testing.network(keras.layers.BatchNormalization(), keras.layers.MaxPooling2D())
        names = {"classifier": classifier, "images": images, "labels": labels}
        for example in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
            exec(example, names)
        self.assertEqual(names["adversarial_images"].shape, images.shape)
        self.assertEqual(int(names["model"].optimizer.iterations), 16)

    @parameterized.parameters("README.md", "CONTRIBUTING.md")
    def test_local_links_and_scripts_exist(self, page):
        text = (ROOT / page).read_text(encoding="utf-8")
        links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
        scripts = re.findall(r"(?:examples|benchmarks|scripts)/\w+(?:\.py)?", text)
        modules = [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (benchmarks[\w.]+)", text)]
        for path in {*links, *scripts, *modules}:
            self.assertTrue((ROOT / path).exists(), path)


if __name__ == "__main__":
    tf.test.main()

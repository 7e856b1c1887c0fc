"""Makes `keras_flowreg/commands/digits/digits.npz`, a class-balanced subset of MNIST.

python scripts/make_digits.py
"""

import hashlib
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags

DIGITS = pathlib.Path(__file__).parents[1] / "keras_flowreg/commands/digits/digits.npz"
FLAGS = flags.FLAGS
flags.DEFINE_integer("train_per_class", 600, "Images of each class from MNIST's training split.", lower_bound=1)
flags.DEFINE_integer("test_per_class", 100, "Images of each class from MNIST's test split.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the final order.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps MNIST; its own default when not given.")
flags.DEFINE_string("output", str(DIGITS), "The file to write.")


def select_balanced(images, labels, per_class, seed):
    """Returns the first `per_class` examples of each class, shuffled with `seed`."""
    first = [np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)]
    # RandomState, because its stream is frozen: Generator's may change with NumPy.
    order = np.random.RandomState(seed).permutation(np.concatenate(first))
    return images[order], labels[order]


def main(argv):
    del argv
    arrays = {}
    for split, per_class in (("train", FLAGS.train_per_class), ("test", FLAGS.test_per_class)):
        dataset = tfds.load("mnist:3.0.1", split=split, data_dir=FLAGS.data_dir, as_supervised=True, batch_size=-1)
        images, labels = tfds.as_numpy(dataset)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = select_balanced(images, labels, per_class, FLAGS.seed)
    np.savez_compressed(FLAGS.output, **arrays)
    for name, array in arrays.items():
        print(name, array.dtype, array.shape, hashlib.sha256(array.tobytes()).hexdigest())


if __name__ == "__main__":
    app.run(main)

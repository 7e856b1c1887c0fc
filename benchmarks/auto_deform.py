r"""Attacks what AutoDeform leaves with a much larger budget: how much more breaks?

    python -m benchmarks.auto_deform --model=plain.keras --model=certified.keras --dataset=digits --epsilons=0.2,0.4

The models are those of `keras-flowreg train`, or of the leaderboard. FlowFrankWolfe ascends three losses, each from
--restarts random starts in --steps steps: the cross-entropy, the margin, and the difference of logits ratio of Croce and
Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", 2020. What is left
it leads to each other class, from --targeted_restarts starts in --targeted_steps steps. What is left then
FlowCoordinateAscent sweeps, from --swept_restarts starts, --sweeps times each. Examples that interval bounds certify are left
out: no attack breaks them. Seconds are those that all processor cores worked.
"""

import os
import time
from typing import NamedTuple

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import keras_flowreg as fr
from keras_flowreg.batches import Batches
from keras_flowreg.commands import command_line, datasets
from keras_flowreg.commands.flags import define_dataset_flags
from keras_flowreg.ops.labels import split_predictions
from keras_flowreg.saved_classifier import SavedClassifier

_CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def define_flags() -> None:
    """Those of a data set; the models, the radii and the large budget."""
    define_dataset_flags()
    flags.DEFINE_multi_string("model", None, "saved classifiers with logits", required=True)
    flags.DEFINE_list("epsilons", ["0.2", "0.4"], "radii of the flows, in pixels")
    flags.DEFINE_integer("examples", 300, "how many test images, from the first", lower_bound=1)
    flags.DEFINE_integer("steps", 100, "steps of each ascent of a loss", lower_bound=1)
    flags.DEFINE_integer("restarts", 30, "random starts of each loss", lower_bound=1)
    flags.DEFINE_integer("targeted_steps", 60, "steps towards each class", lower_bound=1)
    flags.DEFINE_integer("targeted_restarts", 2, "random starts towards each class", lower_bound=1)
    flags.DEFINE_integer("swept_restarts", 10, "random starts of the sweeps over pixels", lower_bound=1)
    flags.DEFINE_integer("sweeps", 5, "sweeps over pixels from each start", lower_bound=1)


def logit_ratio(labels, logits):
    """The difference of logits ratio, (max_{k ≠ label} z_k - z_label) / (largest z - third largest z)."""
    label, others = split_predictions(labels, logits)
    largest = tf.math.top_k(logits, 3).values
    return (tf.reduce_max(others, axis=1) - label) / (largest[:, 0] - largest[:, 2] + 1e-12)


class Row(NamedTuple):
    """Of one model and radius: how many examples are left after each search, and its seconds."""

    certified: int
    left: int
    seconds: float
    after_losses: int
    after_targets: int
    after_sweeps: int
    large_seconds: float


class Attacked:
    """A classifier and its examples, of which those that are fooled are no longer attacked."""

    def __init__(self, model, images, labels):
        self.model, self.images, self.labels = model, images, labels
        predictions = model.predict(images, verbose=0)
        self.classes = predictions.shape[1]
        self.open = np.argmax(predictions, axis=1) == labels

    def attack(self, attack, label=None):
        """Attacks the examples that are open; a targeted attack leads them to the class `label`."""
        rows = np.flatnonzero(self.open if label is None else self.open & (self.labels != label))
        for start in range(0, len(rows), flags.FLAGS.batch_size):
            some = rows[start : start + flags.FLAGS.batch_size]
            labels = self.labels[some] if label is None else np.full(len(some), label)
            result = attack.run(self.images[some], labels, model=self.model, loss=attack.loss or _CROSS_ENTROPY)
            self.open[some] = ~result.success.numpy()

    def certified(self, epsilon):
        """Which of the open examples interval bounds certify: bool `[examples]`. Of an export, which has no layers, none."""
        certified, rows = np.zeros(len(self.open), bool), np.flatnonzero(self.open)
        if len(rows) and not isinstance(self.model, SavedClassifier):
            found = fr.certify(self.model, self.images[rows], self.labels[rows], epsilon, method="crown_ibp")
            certified[rows] = found.certified
        return certified


def measured(model, images, labels, epsilon):
    """The `Row` of a model at a radius."""
    attacked, start = Attacked(model, images, labels), time.process_time()
    attacked.attack(fr.attacks.AutoDeform(epsilon))
    seconds, left = time.process_time() - start, attacked.open.sum()
    certified = attacked.certified(epsilon)
    attacked.open &= ~certified
    start = time.process_time()
    ascent = fr.attacks.FlowFrankWolfe(epsilon, steps=flags.FLAGS.steps, restarts=flags.FLAGS.restarts, start="random")
    for loss in (_CROSS_ENTROPY, "margin", logit_ratio):
        attacked.attack(ascent.replace(loss=loss))
    after_losses = (certified | attacked.open).sum()
    targeted = ascent.replace(
        steps=flags.FLAGS.targeted_steps, restarts=flags.FLAGS.targeted_restarts, loss="margin", targeted=True
    )
    for label in range(attacked.classes):
        attacked.attack(targeted, label)
    after_targets = (certified | attacked.open).sum()
    sweeps = {"sweeps": flags.FLAGS.sweeps, "restarts": flags.FLAGS.swept_restarts}
    attacked.attack(fr.attacks.FlowCoordinateAscent(epsilon, **sweeps, loss="margin"))
    after_sweeps = (certified | attacked.open).sum()
    return Row(certified.sum(), left, seconds, after_losses, after_targets, after_sweeps, time.process_time() - start)


def table_row(path, epsilon, row, examples):
    counts = row.certified, row.left, row.after_losses, row.after_targets, row.after_sweeps
    accuracies = [count / examples for count in counts]
    further = 100 * (row.left - row.after_sweeps) / examples
    cells = [f"{value:.3f}" for value in accuracies] + [f"{further:.1f}"]
    cells += [f"{seconds:.0f}" for seconds in (row.seconds, row.large_seconds)]
    return f"| {os.path.splitext(os.path.basename(path))[0]} | {epsilon:g} | {' | '.join(cells)} |"


def main():
    args = flags.FLAGS
    dataset = datasets.load(args.dataset, batch_size=args.batch_size, data_dir=args.data_dir)
    batches = Batches(dataset.test, "dataset", examples=args.examples)
    images, labels = (np.concatenate(part) for part in zip(*batches))
    print(
        f"the first {len(images)} test images of {args.dataset}; TensorFlow {tf.__version__}, Keras {keras.__version__}\n"
    )
    print(
        "| model | ε (px) | certified | AutoDeform | all losses | all targets | all sweeps | points broken further "
        "| AutoDeform (s) | large budget (s) |\n| --- " + "| ---: " * 9 + "|"
    )
    for path in args.model:
        model = fr.load_classifier(path)
        for epsilon in map(float, args.epsilons):
            row = measured(model, images, labels, epsilon)
            print(table_row(path, epsilon, row, len(images)), flush=True)


if __name__ == "__main__":
    command_line.run(main, define_flags)

"""Accuracy under attack, for one radius after another."""

import numpy as np
import tensorflow as tf

import keras_flowreg as fr


def robust_accuracies(model, batches, epsilons, *, examples=None, progress=None, **attack_options):
    """Measures clean accuracy, and the accuracy that is left under FlowPGD at each ε.

    An example that is misclassified at a smaller ε counts as misclassified at every larger one, and is not
    attacked again: the smaller ball lies in the larger.

    Args:
      model: a compiled Keras classifier.
      batches: a `tf.data.Dataset` of `(images, labels)`.
      epsilons: radii in pixels, not negative.
      examples: how many examples to use, from the first; `None` for all.
      progress: called with a line of text after each batch; `None` for silence.
      **attack_options: as `FlowPGD`.

    Returns:
      `{0.0: clean accuracy, ε: robust accuracy, ...}`, the ε in ascending order, and the number of examples.
    """
    attacks = {
        epsilon: fr.attacks.FlowPGD(model, epsilon, **attack_options) for epsilon in sorted(epsilons) if epsilon > 0
    }
    if examples is not None:
        batches = batches.unbatch().take(examples).batch(128)
    survivors = dict.fromkeys([0.0, *attacks], 0)
    total = 0
    for images, labels in batches:
        total += len(labels)
        for epsilon, attack in [(0.0, None), *attacks.items()]:
            candidates = attack(images, labels) if attack is not None and len(labels) else images
            resists = _is_correct(model, candidates, labels)
            images, labels = images[resists], labels[resists]
            survivors[epsilon] += len(labels)
        if progress is not None:
            left = ", ".join(f"{count / total:.3f} at {epsilon:g} px" for epsilon, count in survivors.items())
            progress(f"{total} examples: {left}")
    return {epsilon: count / total for epsilon, count in survivors.items()}, total


def _is_correct(model, images, labels):
    if not len(labels):
        return np.zeros([0], bool)
    return np.argmax(model(images, training=False), axis=1) == tf.cast(labels, tf.int64).numpy()

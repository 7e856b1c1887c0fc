"""Whether a robustness report can be trusted: each check looks for one way in which it could mislead.

Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020, whose published code warns of some of these for additive noise.
"""

import numpy as np
import tensorflow as tf

from keras_flowreg.attacks import FlowFrankWolfe, FlowPGD, FlowSquare
from keras_flowreg.gradients import flow_gradients
from keras_flowreg.ops.losses import takes_logits
from keras_flowreg.report import Finding

CHECKED_EXAMPLES = 64
# The part of the examples by which chance alone may explain a difference.
TOLERANCE = 0.02


def run(model, loss, batch, value_range, seed, report):
    """Runs every check.

    Args:
      model: the Keras classifier.
      loss: its loss.
      batch: `(images, labels)`, of which the first 64 are used.
      value_range: the least and the greatest value of an image.
      seed: of the attacks.
      report: the `RobustnessReport` to check.

    Returns:
      List of `Finding`s; empty if none found fault.
    """
    images, labels = (part[:CHECKED_EXAMPLES] for part in batch)
    options = {"loss": loss, "value_range": value_range, "seed": seed}
    findings = [
        _gradients(model, images, labels, loss),
        _outputs(model(images, training=False).numpy(), loss),
        _randomness(model, images),
        _larger_radius(report),
        *_attacks(model, images, labels, options),
    ]
    return [finding for finding in findings if finding is not None]


def _gradients(model, images, labels, loss):
    gradients = flow_gradients(model, images, labels, loss).numpy()
    if not np.isfinite(gradients).all():
        return Finding("gradient is finite", "The flow gradient of the loss is not finite for some examples.")
    zero = np.mean(np.all(gradients == 0, axis=(1, 2, 3)))
    if zero > TOLERANCE:
        return Finding(
            "gradient is not zero",
            f"The flow gradient of the loss is exactly zero for {zero:.0%} of the examples: attacks by gradient "
            "cannot move them. Attack with loss='margin', or with FlowSquare, which needs no gradient.",
        )


def _outputs(predictions, loss):
    sums_to_one = np.allclose(predictions.sum(axis=1), 1, atol=1e-3) and predictions.min() >= 0
    if sums_to_one:
        saturated = np.mean(predictions.max(axis=1) > 1 - 1e-6)
        if takes_logits(loss):
            return Finding(
                "outputs are logits", "The outputs look like probabilities, but the loss takes them for logits."
            )
        if saturated > TOLERANCE:
            return Finding(
                "outputs do not saturate",
                f"{saturated:.0%} of the outputs are probabilities that round to one, and hide the gradient. "
                "Evaluate the model without its last softmax.",
            )
    ordered = np.sort(predictions, axis=1)
    if not sums_to_one and np.mean(ordered[:, -1] - ordered[:, -2] > 80) > TOLERANCE:
        return Finding(
            "outputs do not saturate",
            "The logits are so far apart that the cross-entropy's gradient is zero: attack with loss='margin'.",
        )


def _randomness(model, images):
    first, second = (model(images, training=False).numpy() for _ in range(2))
    if not np.allclose(first, second, rtol=1e-4, atol=1e-4):
        return Finding(
            "model is not random",
            "Two runs of the model on the same images differ: an attack sees only one draw of it.",
        )


def _larger_radius(report):
    for run_, robust in report.robust.items():
        for other, larger in report.robust.items():
            gained = np.mean(larger & ~robust)
            is_larger = run_.attack == other.attack and run_.epsilon is not None and other.epsilon > run_.epsilon
            if is_larger and np.mean(larger) - np.mean(robust) > 0 and gained > TOLERANCE:
                return Finding(
                    "a larger radius does not help the model",
                    f"{run_.attack} leaves {np.mean(larger):.3f} robust at {other.epsilon:g} px and only "
                    f"{np.mean(robust):.3f} at {run_.epsilon:g} px: it does not search well.",
                )


def _attacks(model, images, labels, options):
    """What attacks on the checked examples say."""
    radius = 0.5
    few = _robust(FlowPGD(model, radius, 10, random_start=False, **options), images, labels)
    many = _robust(FlowPGD(model, radius, 40, random_start=False, **options), images, labels)
    gradient_free = _robust(FlowSquare(model, radius, 100, **options), images, labels)
    strong = _robust(FlowFrankWolfe(model, radius, 20, **options), images, labels) & many & few
    # From end to end of a small neighbourhood: nearly any picture can be made.
    unbounded = _robust(FlowFrankWolfe(model, max(images.shape[1] / 8, 2.0), 40, **options), images, labels)
    if np.mean(many) - np.mean(few) > TOLERANCE:
        yield Finding(
            "more steps do not help the model",
            f"FlowPGD at {radius} px leaves {np.mean(many):.3f} robust in 40 steps and {np.mean(few):.3f} in 10.",
        )
    if np.mean(strong & ~gradient_free) > TOLERANCE:
        yield Finding(
            "gradients are not masked",
            f"A gradient-free search at {radius} px breaks {np.mean(strong & ~gradient_free):.1%} of the examples "
            "that no attack by gradient breaks.",
        )
    if np.mean(unbounded) > TOLERANCE:
        yield Finding(
            "an unbounded attack reaches zero",
            f"With nearly unbounded flows {np.mean(unbounded):.1%} of the examples are still robust: the model "
            "hides from the attack, or does not look at where things are.",
        )


def _robust(attack, images, labels):
    """bool `[examples]`: not broken."""
    return ~tf.cast(attack.run(images, labels).success, tf.bool).numpy()

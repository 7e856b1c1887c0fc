"""Whether a robustness report can be trusted: each check looks for one way in which it could mislead.

Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020, whose published code warns of some of these for additive noise.
"""

import numpy as np
import tensorflow as tf

from keras_flowreg.attacks import FlowFrankWolfe, FlowPGD, FlowSquare
from keras_flowreg.attacks.runner import has_gradient
from keras_flowreg.evaluation.report import RobustnessReport
from keras_flowreg.evaluation.results import Finding
from keras_flowreg.gradients import flow_gradients
from keras_flowreg.ops.labels import look_like_probabilities
from keras_flowreg.ops.losses import label_kind, takes_logits
from keras_flowreg.ops.validation import as_images
from keras_flowreg.types import KerasModel, LossFunction, ValueRange

CHECKED_EXAMPLES = 64
_CHECKED_PIXELS = CHECKED_EXAMPLES * 96 * 96  # of all checked images together: what their attacks cost
# The part of the examples by which chance alone may explain a difference, as one example may of a few.
TOLERANCE = 0.02
_UNBOUNDED = 2.0, 8.0  # the least and the largest of "nearly unbounded" radii, in pixels
_RADIUS = 0.5  # of the attacks below, in pixels


def run(
    model: KerasModel,
    batch: tuple[np.ndarray, np.ndarray],
    *,
    loss: LossFunction,
    value_range: ValueRange,
    seed: int,
) -> list[Finding]:
    """Runs every check that the model allows: a model without a gradient is not attacked by gradient.

    Args:
      model: a Keras classifier, from images to logits.
      batch: `(images, labels)`, of which the first 64 are used; fewer of large images.
      loss: a Keras loss or a function of `(labels, predictions)`.
      value_range: the least and the greatest value of an image.
      seed: a whole number, which decides what is random in the attacks.

    Returns:
      A `Finding` for each check that found fault.

    ```python
    from keras_flowreg.evaluation import checks

    findings = checks.run(model, (images, labels), loss=model.loss, value_range=(0, 1), seed=0)
    ```
    """
    count = min(CHECKED_EXAMPLES, max(_CHECKED_PIXELS // (batch[0].shape[1] * batch[0].shape[2]), 4))
    images, labels = as_images(batch[0])[:count], batch[1][:count]
    findings = [_outputs(_predictions(model, images), loss), _randomness(model, images)]
    if has_gradient(model, images):
        findings.append(_gradients(model, images, labels, loss))
        findings.extend(_attacks(model, images, labels, loss, {"value_range": value_range, "seed": seed}))
    else:
        findings.append(_no_gradient())
    return [finding for finding in findings if finding is not None]


def look_at(report: RobustnessReport) -> list[Finding]:
    """Checks the numbers of a report; see `run`.

    ```python
    from keras_flowreg.evaluation import checks

    report = fr.evaluate_robustness(model, (images, labels), fr.attacks.RandomFlow(0.4), check=False, verbose=0)
    print(checks.look_at(report))
    ```
    """
    finding = _larger_radius(report)
    return [] if finding is None else [finding]


def _no_gradient():
    return Finding(
        "gradient exists",
        "The model has no gradient with respect to its images: it may round, or call something else than TensorFlow. "
        "Attacks by gradient cannot move its images, and the checks that need a gradient were left out.",
    )


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
    sums_to_one = look_like_probabilities(predictions)
    if sums_to_one:
        saturated = np.mean(predictions.max(axis=1) > 1 - 1e-6)
        if takes_logits(loss):
            return Finding(
                "outputs are logits",
                "The outputs look like probabilities, but the loss takes them for logits. Compile the model again, or give `loss`.",
            )
        if saturated > TOLERANCE:
            return Finding(
                "outputs do not saturate",
                f"{saturated:.0%} of the outputs are probabilities that round to one, and hide the gradient. "
                "Evaluate the model without its last softmax.",
            )
    elif takes_logits(loss) is False and label_kind(loss) != "each":
        return Finding(
            "outputs are probabilities",
            "The loss takes the outputs for probabilities, and they are none: they do not add up to one. "
            "Compile the model with from_logits=True, or give `loss`.",
        )
    ordered = np.sort(predictions, axis=1)
    if not sums_to_one and np.mean(ordered[:, -1] - ordered[:, -2] > 80) > TOLERANCE:
        return Finding(
            "outputs do not saturate",
            "The logits are so far apart that the cross-entropy's gradient is zero: attack with loss='margin'.",
        )


def _predictions(model, images):
    """As an array; NumPy does not know bfloat16."""
    predictions = model(images, training=False)
    return tf.cast(predictions, tf.float32).numpy() if predictions.dtype.size < 4 else predictions.numpy()


def _randomness(model, images):
    first, second = (_predictions(model, images) for _ in range(2))
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
                    f"{other} leaves {np.mean(larger):.3f} robust, and {run_} only "
                    f"{np.mean(robust):.3f}: it does not search well.",
                )


def _attacks(model, images, labels, loss, options):
    """What attacks on the checked examples say."""

    def robust(attack):
        """bool `[examples]`: not fooled."""
        return ~attack.run(images, labels, model=model, loss=loss).success.numpy()

    few = robust(FlowPGD(_RADIUS, steps=10, start="zero", **options))
    many = robust(FlowPGD(_RADIUS, steps=40, start="zero", **options))
    gradient_free = robust(FlowSquare(_RADIUS, queries=100, **options))
    strong = robust(FlowFrankWolfe(_RADIUS, steps=20, **options)) & many & few
    # From end to end of a small neighbourhood: nearly any picture can be made.
    unbounded = robust(FlowFrankWolfe(float(np.clip(images.shape[1] / 8, *_UNBOUNDED)), steps=40, **options))
    tolerance = max(TOLERANCE, 1 / len(images))
    if np.mean(many) - np.mean(few) > tolerance:
        yield Finding(
            "more steps do not help the model",
            f"FlowPGD at {_RADIUS} px leaves {np.mean(many):.3f} robust in 40 steps and {np.mean(few):.3f} in 10.",
        )
    if np.mean(strong & ~gradient_free) > tolerance:
        yield Finding(
            "gradients are not masked",
            f"A gradient-free search at {_RADIUS} px fools the model on {np.mean(strong & ~gradient_free):.1%} of the "
            "examples, on which no attack by gradient does.",
        )
    if np.mean(unbounded) > tolerance:
        yield Finding(
            "an unbounded attack reaches zero",
            f"With nearly unbounded flows {np.mean(unbounded):.1%} of the examples are still robust: the model "
            "hides from the attack, or does not look at where things are.",
        )

"""The parts of a report: a run, an accuracy, a finding."""

from typing import NamedTuple, Optional

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Run(NamedTuple):
    """One attack at one radius: a key of `RobustnessReport.robust`.

    ```python
    run = fr.evaluation.Run("FlowPGD", 0.4)
    print(run)  # FlowPGD 0.4
    ```
    """

    attack: str  # its name
    epsilon: Optional[float]  # the radius, in pixels for flows; None for an attack without one

    def __str__(self):
        return self.attack if self.epsilon is None else f"{self.attack} {self.epsilon:g}"


def title(attack: str, in_pixels: bool) -> str:
    """The name of an attack, as tables and pictures have it: it says that its radius is not in pixels.

    ```python
    from keras_flowreg.evaluation.results import title

    print(title("IntensityPGD", in_pixels=False))
    ```
    """
    return attack if in_pixels else f"{attack} (radius not in pixels)"


class Finding(NamedTuple):
    """One reason why a report should not be trusted as it is.

    ```python
    finding = fr.evaluation.Finding("model is not random", "Two runs of the model on the same images differ.")
    print(finding.check, finding.message)
    ```
    """

    check: str  # what should hold
    message: str  # what was found instead


class Accuracy(NamedTuple):
    """The part of the examples that are correct, and its Clopper-Pearson interval at 95 %.

    ```python
    clean = fr.evaluation.accuracy(np.array([True, True, False]))
    print(f"{clean.value:.2f}, from {clean.low:.2f} to {clean.high:.2f}")
    ```
    """

    value: float
    low: float
    high: float


def accuracy(correct: np.ndarray) -> Accuracy:
    """The `Accuracy` of a bool array `[examples]`.

    ```python
    print(fr.evaluation.accuracy(np.array([True, True, False])).value)
    ```
    """
    interval = stats.binomtest(int(np.sum(correct)), len(correct)).proportion_ci(CONFIDENCE, method="exact")
    return Accuracy(float(np.mean(correct)), float(interval.low), float(interval.high))

"""What is proven of the examples of an evaluation: a lower bound beside the attacks' upper one."""

from collections.abc import Iterable, Mapping

import numpy as np

from keras_flowreg.attacks import Attack
from keras_flowreg.certification import certify
from keras_flowreg.evaluation.report import RobustnessReport
from keras_flowreg.evaluation.results import Finding, Run
from keras_flowreg.perturbations import Flow
from keras_flowreg.types import Images, KerasModel, Labels


class Certifier:
    """Certifies an evaluation's batches one after another, at each radius.

    ```python
    from keras_flowreg.evaluation.certified import Certifier

    certifier = Certifier(model, [0.01, 0.02])
    certifier.add(images, labels)
    print(certifier.results()[0.01].mean())
    ```

    Args:
      model: a Keras model, as `certify` takes it.
      epsilons: the radii, in pixels; none for no work.
    """

    def __init__(self, model: KerasModel, epsilons: Iterable[float]):
        self._model = model
        self._parts: dict[float, list[np.ndarray]] = {epsilon: [] for epsilon in sorted(epsilons)}

    def try_one(self, images: Images, labels: Labels) -> None:
        """Certifies one example, so that an error comes before hours of attacks.

        Raises:
          ValueError: if a layer has no rule for bounds; see `certify`.
        """
        if self._parts:
            certify(self._model, images[:1], labels[:1], max(self._parts), method="ibp")

    def add(self, images: Images, labels: Labels) -> None:
        """Certifies a batch."""
        # What holds in a ball holds in a smaller one.
        certified = np.zeros(len(images), bool)
        for epsilon in reversed(self._parts):
            left = np.flatnonzero(~certified)
            if len(left):
                found = certify(self._model, np.asarray(images)[left], np.asarray(labels)[left], epsilon).certified
                certified[left] = found
            self._parts[epsilon].append(certified.copy())

    def results(self) -> dict[float, np.ndarray]:
        """`{ε: bool [examples]}`, which of all examples are certified."""
        return {epsilon: np.concatenate(parts) for epsilon, parts in self._parts.items()}


def contradictions(report: RobustnessReport, attacks: Mapping[Run, Attack]) -> list[Finding]:
    """A finding for each attack that fools a certified example, which a proof rules out."""
    findings = []
    for epsilon, certified in report.certified.items():
        for run, attack in attacks.items():
            is_within = isinstance(attack.perturbation, Flow) and run.epsilon is not None and run.epsilon <= epsilon
            broken = int(np.sum(certified & ~report.robust[run])) if is_within else 0
            if broken:
                message = f"{run} fools {broken} of the examples that are certified at {epsilon:g} px. One of the two is wrong."
                findings.append(Finding("no attack fools what is certified", message))
    return findings

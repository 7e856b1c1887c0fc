"""What is proven of the examples of an evaluation: a lower bound beside the attacks' upper one."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_flowreg.attacks import Attack
from keras_flowreg.certification.certify import Certification
from keras_flowreg.evaluation.report import RobustnessReport
from keras_flowreg.evaluation.results import Finding, Run
from keras_flowreg.types import Images, KerasModel, Labels

_ONE_IN = 16  # of the certified examples of a batch is attacked all the same
_NORM = "linf"  # whose ball holds those of all other norms


class Certifier:
    """Certifies an evaluation's batches at each radius, and chooses what is left to attack.

    ```python
    from keras_flowreg.evaluation.certified import Certifier

    certifier = Certifier(model, [0.01, 0.02])
    proof = certifier.prove(images, labels, 0.01, known=np.zeros(len(images), bool))
    proven = {0.01: np.array(proof["certified"])}
    print(certifier.attacked(fr.attacks.FlowFGSM(0.01), proven, 0, len(images)))
    ```

    Args:
      model: a Keras model, as `certify` takes it.
      epsilons: the radii, in pixels; none for no work.
      seed: a whole number, which decides which of the certified examples are attacked.
    """

    def __init__(self, model: KerasModel, epsilons: Iterable[float], seed: int = 0):
        self._certify = Certification(model)
        self._seed = seed
        self.epsilons = sorted(epsilons)

    def settings(self) -> dict[str, Any]:
        """What decides the proofs and the choice of the attacked examples, as plain values; nothing if none is proven."""
        chosen = {"norm": _NORM, "method": "auto", "attacked": f"one in {_ONE_IN} of each batch"}
        return {"certify": chosen} if self.epsilons else {}

    def try_one(self, images: Images, labels: Labels) -> None:
        """Certifies one example, so that an error comes before hours of attacks.

        Raises:
          ValueError: if a layer has no rule for bounds; see `certify`.
        """
        if self.epsilons:
            self._certify(images[:1], labels[:1], self.epsilons[-1], method="ibp", norm=_NORM)

    def prove(self, images: Images, labels: Labels, epsilon: float, known: np.ndarray) -> dict[str, Any]:
        """Certifies a batch at a radius.

        Args:
          images, labels: the batch.
          epsilon: the radius, in pixels.
          known: bool `[batch]`, which examples are certified at a larger radius, and so at this one.

        Returns:
          `{"certified": [...], "seconds": ...}`, as plain values.
        """
        certified, left, seconds = known.copy(), np.flatnonzero(~known), 0.0
        if len(left):
            certificate = self._certify(images[left], labels[left], epsilon, norm=_NORM)
            certified[left], seconds = certificate.certified, certificate.seconds
        return {"certified": certified.tolist(), "seconds": seconds}

    def attacked(self, attack: Attack, proven: Mapping[float, np.ndarray], batch: int, examples: int) -> np.ndarray:
        """Which examples of a batch an attack is run on: bool `[batch]`.

        An attack by flows of a proven radius leaves out what is certified, but for a draw of it. Others leave out nothing.

        Args:
          attack: the `Attack`.
          proven: `{ε: bool [batch]}`, which examples are certified.
          batch: the number of the batch.
          examples: how many there are in it.
        """
        certified = proven.get(_radius(attack), np.zeros(examples, bool))
        order = np.random.default_rng([self._seed % 2**32, batch]).permutation(examples)
        drawn = order[certified[order]][: -(-np.sum(certified) // _ONE_IN)]
        attacked = ~certified
        attacked[drawn] = True
        return attacked


def contradictions(report: RobustnessReport, attacks: Mapping[Run, Attack]) -> list[Finding]:
    """A finding for each attack that fools a certified example, which a proof rules out."""
    findings = []
    for epsilon, certified in report.certified.items():
        for run, attack in attacks.items():
            radius = _radius(attack)
            broken = 0 if radius is None or radius > epsilon else int(np.sum(certified & ~report.robust[run]))
            if broken:
                message = f"{run} px fools {broken} of the examples that are certified at {epsilon:g} px. One of the two is wrong."
                findings.append(Finding("no attack fools what is certified", message))
    return findings


def radii(attacks: Iterable[Attack]) -> set[float]:
    """How far the flows of some attacks displace a pixel at most: what can be proven beside them."""
    return {radius for radius in map(_radius, attacks) if radius is not None}


def _radius(attack):
    """How far an attack's flows displace a pixel at most; `None` if it has no radius, or is no attack by flows."""
    return attack.displacements().get("epsilon")

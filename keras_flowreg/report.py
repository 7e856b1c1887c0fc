"""What an evaluation has found: as a table, as JSON, and as a picture."""

import dataclasses
import json
from typing import NamedTuple, Optional

import numpy as np
from scipy import stats

SCHEMA_VERSION = 1
CONFIDENCE = 0.95


class Run(NamedTuple):
    """One attack at one radius, in pixels; `None` for an attack without one."""

    attack: str
    epsilon: Optional[float]

    def __str__(self):
        return self.attack if self.epsilon is None else f"{self.attack} {self.epsilon:g} px"


class Finding(NamedTuple):
    """Why a report should not be trusted as it is."""

    check: str
    message: str


class Accuracy(NamedTuple):
    """A part of the examples, and its Clopper-Pearson interval at 95 %."""

    value: float
    low: float
    high: float


def accuracy(correct):
    """The `Accuracy` of a bool array."""
    interval = stats.binomtest(int(np.sum(correct)), len(correct)).proportion_ci(CONFIDENCE, method="exact")
    return Accuracy(float(np.mean(correct)), float(interval.low), float(interval.high))


@dataclasses.dataclass
class RobustnessReport:
    """The result of `evaluate_robustness`.

    Attributes:
      settings: what decided the numbers: checksum of the weights, loss, attacks with every option, seed.
      versions: of the libraries.
      examples: how many there are.
      correct: bool `[examples]`: classified correctly as they are.
      robust: `{Run: bool [examples]}`: classified correctly, and not broken by this attack at this radius.
      measures: `{Run: {name: number}}`: of each run, over the examples that were correct: the mean loss, the
        median over examples of the median displacement, the largest displacement of any pixel, the mean
        roughness (see `ops.DisplacementStatistics`), the mean queries of the model, all seconds.
      findings: `Finding`s: why not to trust it. Empty if every check passed, or none was run.
    """

    settings: dict
    versions: dict
    examples: int
    correct: np.ndarray
    robust: dict
    measures: dict
    findings: list = dataclasses.field(default_factory=list)

    @classmethod
    def from_results(cls, settings, versions, results):
        """Collects `{Run: [records of batches]}`."""
        joined = {run: _join(records) for run, records in results.items()}
        correct = ~next(iter(joined.values()))["clean_success"].astype(bool)
        robust = {run: correct & ~joined[run]["success"].astype(bool) for run in joined}
        measures = {run: _measures(joined[run], correct) for run in joined}
        return cls(settings, versions, len(correct), correct, robust, measures)

    @property
    def clean_accuracy(self):
        """`Accuracy` without any perturbation."""
        return accuracy(self.correct)

    @property
    def trustworthy(self):
        """Whether no check found fault."""
        return not self.findings

    def robust_accuracy(self, attack, epsilon=None):
        """`Accuracy` under one attack at one radius.

        Raises:
          ValueError: if there is no such run.
        """
        if Run(attack, epsilon) not in self.robust:
            raise ValueError(f"Expected one of {[str(run) for run in self.robust]}. Received {Run(attack, epsilon)}.")
        return accuracy(self.robust[Run(attack, epsilon)])

    def worst_case(self):
        """`{ε: bool [examples]}`: robust to every attack of that radius and of every smaller one."""
        left, worst = self.correct, {}
        for epsilon in sorted({run.epsilon for run in self.robust if run.epsilon is not None}):
            for run, robust in self.robust.items():
                if run.epsilon == epsilon:
                    left = left & robust
            worst[epsilon] = left
        return worst

    def to_markdown(self):
        """The report as a table, with what was found wrong below it."""
        lines = [
            f"{self.examples} examples; accuracy with its {CONFIDENCE:.0%} interval (Clopper-Pearson). Displacements "
            "in pixels: over the examples, the median of the median pixel's and the largest pixel's.",
            "",
            "| attack | ε (px) | accuracy | interval | loss | median px | largest px | roughness | queries | seconds |",
            "| --- " + "| ---: " * 9 + "|",
            _row("clean", "", self.clean_accuracy),
        ]
        for run in self.robust:
            epsilon = "" if run.epsilon is None else f"{run.epsilon:g}"
            lines.append(_row(run.attack, epsilon, accuracy(self.robust[run]), self.measures[run]))
        for epsilon, robust in self.worst_case().items():
            lines.append(_row("**worst case**", f"{epsilon:g}", accuracy(robust)))
        lines += ["", *(f"- **{finding.check}**: {finding.message}" for finding in self.findings)]
        if self.findings:
            lines.append("\nNot to be trusted as it is: see above.")
        return "\n".join(lines).rstrip() + "\n"

    def to_json(self):
        """The report as JSON text, with every setting and library version; `from_json` reads it."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "settings": self.settings,
            "versions": self.versions,
            "examples": self.examples,
            "trustworthy": self.trustworthy,
            "findings": [finding._asdict() for finding in self.findings],
            "clean_accuracy": self.clean_accuracy._asdict(),
            "correct": _bits(self.correct),
            "runs": [
                {
                    **run._asdict(),
                    "accuracy": accuracy(robust)._asdict(),
                    "robust": _bits(robust),
                    **self.measures[run],
                }
                for run, robust in self.robust.items()
            ],
            "worst_case": [
                {"epsilon": epsilon, "accuracy": accuracy(robust)._asdict(), "robust": _bits(robust)}
                for epsilon, robust in self.worst_case().items()
            ],
        }
        return json.dumps(content, indent=2)

    @classmethod
    def from_json(cls, text):
        """Reads what `to_json` wrote.

        Raises:
          ValueError: if it is of another schema version.
        """
        content = json.loads(text)
        if content.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"Expected a report of schema version {SCHEMA_VERSION}. Received {content.get('schema_version')}."
            )
        runs = [(Run(run.pop("attack"), run.pop("epsilon")), run) for run in content["runs"]]
        return cls(
            content["settings"],
            content["versions"],
            content["examples"],
            _from_bits(content["correct"]),
            {run: _from_bits(values.pop("robust")) for run, values in runs},
            {run: {name: value for name, value in values.items() if name != "accuracy"} for run, values in runs},
            [Finding(**finding) for finding in content["findings"]],
        )

    def plot(self, axes=None):
        """Draws accuracy against ε, for each attack and for the worst case, with its interval.

        Args:
          axes: Matplotlib axes; `None` for a new figure's.

        Returns:
          The axes.
        """
        import matplotlib.pyplot as plt

        axes = plt.figure(figsize=(6, 4), layout="constrained").subplots() if axes is None else axes
        for name in dict.fromkeys(run.attack for run in self.robust):
            curve = {run.epsilon: robust for run, robust in self.robust.items() if run.attack == name}
            if None in curve:
                axes.axhline(np.mean(curve[None]), linestyle=":", color="gray")
                axes.annotate(name, (0, np.mean(curve[None])), fontsize=8, va="bottom")
            else:
                _draw_curve(axes, {0.0: self.correct, **curve}, label=name, marker="o", linewidth=1)
        worst = {0.0: self.correct, **self.worst_case()}
        if len(worst) > 1:
            low, high = zip(*((interval.low, interval.high) for interval in map(accuracy, worst.values())))
            axes.fill_between(list(worst), low, high, color="black", alpha=0.12)
            _draw_curve(axes, worst, label="worst case (95 %)", color="black", linewidth=2)
            axes.legend(fontsize=8)
        axes.set(xlabel="ε: largest displacement (pixels)", ylabel="accuracy", ylim=(0, 1.02))
        axes.set_title(f"{self.examples} examples" + ("" if self.trustworthy else ": not to be trusted, see findings"))
        axes.grid(alpha=0.3)
        return axes


def _draw_curve(axes, robust_by_epsilon, **style):
    axes.plot(list(robust_by_epsilon), [np.mean(robust) for robust in robust_by_epsilon.values()], **style)


def _join(records):
    names = [name for name in records[0] if name != "seconds"]
    joined = {name: np.concatenate([np.asarray(record[name]) for record in records]) for name in names}
    return {**joined, "seconds": sum(record["seconds"] for record in records)}


def _measures(joined, correct):
    """The numbers of one run, over the examples that are classified correctly as they are."""

    def over_correct(function, name):
        return float(function(joined[name][correct])) if correct.any() else 0.0

    return {
        "loss": over_correct(np.mean, "loss"),
        "median": over_correct(np.median, "median"),
        "largest": over_correct(np.max, "largest"),
        "roughness": over_correct(np.mean, "roughness"),
        "queries": over_correct(np.mean, "queries"),
        "seconds": joined["seconds"],
    }


def _row(name, epsilon, part, measures=None):
    cells = [name, epsilon, f"{part.value:.3f}", f"{part.low:.3f}–{part.high:.3f}"]
    if measures is None:
        return "| " + " | ".join(cells + [""] * 6) + " |"
    numbers = [f"{measures[name]:.3f}" for name in ("loss", "median", "largest", "roughness")]
    return "| " + " | ".join([*cells, *numbers, f"{measures['queries']:.0f}", f"{measures['seconds']:.1f}"]) + " |"


def _bits(values):
    return "".join("1" if value else "0" for value in values)


def _from_bits(text):
    return np.array([bit == "1" for bit in text], bool)

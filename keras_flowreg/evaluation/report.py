"""What an evaluation has found: as a table, as plain values, and as a picture."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from keras_flowreg import pictures
from keras_flowreg.evaluation import table
from keras_flowreg.evaluation.plain import plain
from keras_flowreg.evaluation.record import AttackRecord
from keras_flowreg.evaluation.results import CONFIDENCE, Accuracy, Finding, Run, accuracy, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA_VERSION = 1
_MEASURES = ("loss", "median", "largest", "roughness", "queries", "seconds")


@dataclasses.dataclass(eq=False, repr=False)
class RobustnessReport:
    """Which examples are robust to which attack. `evaluate_robustness` returns one.

    Two reports are equal if all that is in them is. `print` shows one as a table, and so does a notebook.

    Attributes:
      settings: all that decided the numbers: the checksum of the weights, the loss, every option of the attacks, the seed.
      versions: the versions of the libraries.
      examples: the number of examples.
      correct: bool `[examples]`, whether the model is right without any perturbation.
      robust: `{Run: bool [examples]}`, whether the model is right, and this attack at this radius does not fool it.
      measures: `{Run: {name: number}}`, each over the examples that are correct and attacked; NaN if there are none. `loss` and
        `roughness` are means, `queries` the mean number of runs of the model on an image. `median` is the median
        of each example's median displacement, `largest` the largest displacement of any pixel, both in pixels
        (see `ops.DisplacementStatistics`). `seconds` is the time for all examples.
      findings: a list of `Finding`, the reasons not to trust the report. It is empty if nothing was found.
      certified: `{ε: bool [examples]}`, whether it is proven that no flow of that radius fools the model. It is empty if
        nothing was to be certified.
      attacked: `{Run: bool [examples]}`, of each run that left out what is certified, which examples it was run on.
      other_radii: the names of attacks whose radius is no displacement in pixels, such as `IntensityPGD`'s.

    ```python
    report = fr.evaluate_robustness(model, (images, labels), fr.attacks.RandomFlow(0.4), [0.4], check=False)
    print(report.clean_accuracy.value, report.robust_accuracy("RandomFlow", 0.4).value)
    print(report)
    assert fr.RobustnessReport.from_dict(report.to_dict()) == report
    ```
    """

    settings: dict
    versions: dict
    examples: int
    correct: np.ndarray
    robust: dict
    measures: dict
    findings: list = dataclasses.field(default_factory=list)
    certified: dict = dataclasses.field(default_factory=dict)
    attacked: dict = dataclasses.field(default_factory=dict)
    other_radii: frozenset = frozenset()

    @classmethod
    def from_records(
        cls,
        settings: Mapping[str, Any],
        versions: Mapping[str, str],
        records: Mapping[Run, AttackRecord],
        certified: Optional[Mapping[float, np.ndarray]] = None,
        other_radii: Iterable[str] = (),
    ) -> "RobustnessReport":
        """The report of what each run did to all examples, and of what is certified of them; see the attributes.

        Raises:
          ValueError: if the records are not of the same number of examples.
        """
        sizes = {str(run): record.examples for run, record in records.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"Expected records of the same examples. Received numbers of examples: {sizes}.")
        correct = ~next(iter(records.values())).clean_success
        robust = {run: correct & ~record.success for run, record in records.items()}
        measures = {run: _measures(record, correct) for run, record in records.items()}
        made = cls(dict(settings), dict(versions), len(correct), correct, robust, measures)
        made.certified, made.other_radii = dict(certified or {}), frozenset(other_radii)
        made.attacked = {run: record.attacked for run, record in records.items() if not record.attacked.all()}
        return made

    @property
    def clean_accuracy(self) -> Accuracy:
        """The accuracy without any perturbation."""
        return accuracy(self.correct)

    @property
    def trustworthy(self) -> bool:
        """Whether nothing was found that speaks against the report."""
        return not self.findings

    def robust_accuracy(self, attack: str, epsilon: Optional[float] = None) -> Accuracy:
        """The accuracy under one attack at one radius.

        Args:
          attack: its name.
          epsilon: the radius, in pixels for flows; `None` for an attack without one.

        Raises:
          ValueError: if there is no such run.
        """
        if Run(attack, epsilon) not in self.robust:
            raise ValueError(f"Expected one of {[str(run) for run in self.robust]}. Received {Run(attack, epsilon)}.")
        return accuracy(self.robust[Run(attack, epsilon)])

    def worst_case(self) -> dict[float, np.ndarray]:
        """`{ε: bool [examples]}`: robust to every attack of that radius in pixels, and of every smaller one."""
        left, worst = self.correct, {}
        in_pixels = [run for run in self.robust if run.epsilon is not None and run.attack not in self.other_radii]
        for run in sorted(in_pixels, key=lambda run: run.epsilon):
            worst[run.epsilon] = left = left & self.robust[run]
        return worst

    def to_markdown(self) -> str:
        """The report as a table, and below it what was found."""
        return table.markdown(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, with every setting and library version; `from_dict` reads them.

        A number that is not finite becomes `None`.
        """
        proven = [{"epsilon": epsilon, **_summary(each, "certified")} for epsilon, each in self.certified.items()]
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "settings": self.settings,
                "versions": self.versions,
                "examples": self.examples,
                "trustworthy": self.trustworthy,
                "findings": [finding._asdict() for finding in self.findings],
                "clean_accuracy": self.clean_accuracy._asdict(),
                "correct": _bits(self.correct),
                "runs": [self._run_to_dict(run) for run in self.robust],
                "worst_case": [
                    {"epsilon": epsilon, **_summary(robust)} for epsilon, robust in self.worst_case().items()
                ],
                **({"certified": proven} if proven else {}),
            }
        )

    def _run_to_dict(self, run):
        attacked = {"attacked": _bits(self.attacked[run])} if run in self.attacked else {}
        unit = {"in_pixels": False} if run.attack in self.other_radii else {}
        return {**run._asdict(), **unit, **_summary(self.robust[run]), **attacked, **self.measures[run]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RobustnessReport":
        """Reads what `to_dict` returned; `None` among the measures becomes NaN.

        Raises:
          ValueError: if it is of another schema version, or is not a report.
        """
        version = values.get("schema_version") if isinstance(values, Mapping) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"Expected a report of schema version {SCHEMA_VERSION}. Received {version}.")
        try:
            return cls._from_plain(values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"Expected a report. Received one without, or with another, {error}.") from error

    @classmethod
    def _from_plain(cls, values):
        size = values["examples"]
        runs = {Run(run["attack"], run["epsilon"]): run for run in values["runs"]}
        return cls(
            settings=plain(values["settings"]),
            versions=plain(values["versions"]),
            examples=size,
            correct=_from_bits(values["correct"], size),
            robust={run: _from_bits(entries["robust"], size) for run, entries in runs.items()},
            measures={run: {name: _number(entries[name]) for name in _MEASURES} for run, entries in runs.items()},
            certified={
                entries["epsilon"]: _from_bits(entries["certified"], size) for entries in values.get("certified", ())
            },
            attacked={
                run: _from_bits(entries["attacked"], size) for run, entries in runs.items() if "attacked" in entries
            },
            other_radii=frozenset(run.attack for run, entries in runs.items() if not entries.get("in_pixels", True)),
            findings=[Finding(**finding) for finding in values["findings"]],
        )

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "RobustnessReport":
        """Reads what `to_json` wrote.

        Raises:
          ValueError: if it is not JSON, of another schema version, or not a report.
        """
        try:
            values = json.loads(text)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Expected a report in JSON. Received {error}.") from error
        return cls.from_dict(values)

    def plot(self, axes: Optional["Axes"] = None) -> "Axes":
        """Draws accuracy against ε, for each attack, for the worst case, and for what is certified, with intervals.

        Args:
          axes: Matplotlib axes; `None` for those of a new figure.

        Returns:
          The axes.
        """
        curves: dict[str, dict] = {}
        for run, robust in self.robust.items():
            start = {} if run.epsilon is None else {0.0: self.clean_accuracy.value}
            curve = curves.setdefault(title(run.attack, run.attack not in self.other_radii), {})
            curve.update({**start, run.epsilon: float(np.mean(robust))})
        worst, styles = self.worst_case(), {}
        if worst:
            label = f"worst case ({CONFIDENCE:.0%})"
            curves[label] = {0.0: self.clean_accuracy, **{epsilon: accuracy(left) for epsilon, left in worst.items()}}
            styles[label] = {"color": "black", "linewidth": 2, "marker": ""}
        if self.certified:
            label = f"certified ({CONFIDENCE:.0%})"
            curves[label] = {
                0.0: self.clean_accuracy,
                **{epsilon: accuracy(left) for epsilon, left in self.certified.items()},
            }
            styles[label] = {"color": "black", "linewidth": 2, "marker": "", "linestyle": "--"}
        axes = pictures.plot_accuracy(axes, curves, styles=styles)
        if self.certified and worst:  # The true accuracy lies between the two.
            radii = sorted(self.certified)
            ends = ([float(np.mean(curve[radius])) for radius in radii] for curve in (self.certified, worst))
            axes.fill_between(radii, *ends, color="black", alpha=0.08, linewidth=0)
        axes.set_title(f"{self.examples} examples" + ("" if self.trustworthy else ": not to be trusted, see findings"))
        return axes

    def __repr__(self):
        return f"<RobustnessReport of {self.examples} examples: {', '.join(map(str, self.robust))}>"

    def __str__(self):
        return self.to_markdown()

    def _repr_markdown_(self):
        return self.to_markdown()

    def __eq__(self, other):
        return self.to_dict() == other.to_dict() if isinstance(other, RobustnessReport) else NotImplemented


def _measures(record, correct):
    """The numbers of one run, over the examples that are classified correctly as they are, and attacked."""
    counted = correct & record.attacked

    def over_counted(function, values):
        return float(function(values[counted])) if counted.any() else float("nan")

    return {
        "loss": over_counted(np.mean, record.loss),
        "median": over_counted(np.median, record.median),
        "largest": over_counted(np.max, record.largest),
        "roughness": over_counted(np.mean, record.roughness),
        "queries": over_counted(np.mean, record.queries),
        "seconds": record.seconds,
    }


def _summary(kept, name="robust"):
    """What the report holds of a bool `[examples]`."""
    return {"accuracy": accuracy(kept)._asdict(), name: _bits(kept)}


def _number(value):
    return float("nan") if value is None else value


def _bits(values):
    return "".join("1" if value else "0" for value in values)


def _from_bits(text, size):
    if len(text) != size or set(text) - set("01"):
        raise ValueError(f"Expected {size} times 0 or 1, one for each example. Received {text[:40]!r}.")
    return np.array([bit == "1" for bit in text], bool)

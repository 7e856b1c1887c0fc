"""What one attack did to one batch."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_flowreg.attacks import AttackResult
from keras_flowreg.evaluation.plain import plain


@dataclasses.dataclass(frozen=True, eq=False)
class AttackRecord:
    """What one attack did to each example of a batch. Two are equal if all their numbers are.

    An example that was not attacked has no queries, and NaN for its other numbers.

    Attributes:
      success: bool `[batch]`, whether the attack fooled the model.
      clean_success: bool `[batch]`, whether the model was already wrong without any perturbation.
      loss: float `[batch]`, the loss of the adversarial images.
      queries: int `[batch]`, how often the model was run on the image.
      median: float `[batch]`, the displacement of the median pixel, in pixels.
      largest: float `[batch]`, the displacement of the pixel that moved farthest, in pixels.
      roughness: float `[batch]`, how much neighbouring displacements differ; see `ops.DisplacementStatistics`.
      seconds: how long the attack took.

    Raises:
      ValueError: if the arrays are not `[batch]`, with one batch for all.

    ```python
    from keras_flowreg.evaluation.record import AttackRecord

    result = fr.attacks.RandomFlow(epsilon=0.4).run(images, labels, model=model)
    record = AttackRecord.from_result(result, seconds=0.5)
    print(record.success.mean())
    ```
    """

    success: np.ndarray
    clean_success: np.ndarray
    loss: np.ndarray
    queries: np.ndarray
    median: np.ndarray
    largest: np.ndarray
    roughness: np.ndarray
    seconds: float

    def __post_init__(self):
        shapes = {name: getattr(self, name).shape for name in _DTYPES}
        if len(set(shapes.values())) != 1 or len(shapes["success"]) != 1:
            raise ValueError(f"Expected arrays of the same shape [batch]. Received {shapes}.")

    @classmethod
    def from_result(cls, result: AttackResult, seconds: float) -> "AttackRecord":
        """The record of what an attack's `run` returned."""
        values = {**result.displacement._asdict(), **result._asdict()}
        return cls(**{name: np.asarray(values[name]).astype(dtype) for name, dtype in _DTYPES.items()}, seconds=seconds)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AttackRecord":
        """Reads what `to_dict` returned.

        Raises:
          ValueError: if there are other names in it than the attributes above.
        """
        if set(values) != {*_DTYPES, "seconds"}:
            raise ValueError(f"Expected a record of {[*_DTYPES, 'seconds']}. Received {list(values)}.")
        arrays = {name: np.array(values[name], dtype) for name, dtype in _DTYPES.items()}
        return cls(**arrays, seconds=float(values["seconds"]))

    @classmethod
    def joined(cls, records: Sequence["AttackRecord"]) -> "AttackRecord":
        """One record of several batches, in their order."""
        arrays = {name: np.concatenate([getattr(record, name) for record in records]) for name in _DTYPES}
        return cls(**arrays, seconds=sum(record.seconds for record in records))

    @classmethod
    def of_no_attack(cls, examples: int) -> "AttackRecord":
        """The record of a batch of which no example was attacked."""
        empty = {bool: False, int: 0, float: np.nan}
        return cls(**{name: np.full(examples, empty[dtype]) for name, dtype in _DTYPES.items()}, seconds=0.0)

    def with_rows(self, rows: np.ndarray, record: "AttackRecord") -> "AttackRecord":
        """A copy in which the examples `rows` are the first ones of another record, whose seconds are added."""
        arrays = {name: getattr(self, name).copy() for name in _DTYPES}
        for name, values in arrays.items():
            values[rows] = getattr(record, name)[: len(rows)]
        return AttackRecord(**arrays, seconds=self.seconds + record.seconds)

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return len(self.success)

    @property
    def attacked(self) -> np.ndarray:
        """Which examples were attacked: bool `[batch]`."""
        return self.queries > 0

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values. A number that is not finite becomes `None`."""
        return plain({name: getattr(self, name) for name in (*_DTYPES, "seconds")})

    def __eq__(self, other):
        return self.to_dict() == other.to_dict() if isinstance(other, AttackRecord) else NotImplemented


# Of each array. NumPy reads a `None` among floats as NaN.
_DTYPES = {
    "success": bool,
    "clean_success": bool,
    "loss": float,
    "queries": int,
    "median": float,
    "largest": float,
    "roughness": float,
}

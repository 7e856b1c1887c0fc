"""A file that an evaluation writes as it goes, so that one that was killed can go on."""

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np

from keras_flowreg.evaluation.plain import plain
from keras_flowreg.evaluation.record import AttackRecord


class Journal:
    """A file of finished work, so that an evaluation that was killed can go on.

    It has one JSON object a line. The first one holds the settings. Each line is flushed to the disk before the next is
    computed. A last line that was cut off is dropped.

    Args:
      path: the path of the file; `None` to keep nothing.
      settings: the settings that the records belong to, as plain values.

    Raises:
      ValueError: if the file holds something else, or records of other settings.

    ```python
    from keras_flowreg.evaluation.journal import Journal

    journal = Journal("partial.jsonl", settings={"seed": 0})
    print(journal.find(("FlowPGD", 0.4), 0, data="0a1b2c3d"))  # None: nothing is finished yet.
    ```
    """

    def __init__(self, path: Optional[Union[str, os.PathLike]], settings: Mapping[str, Any]):
        self._path = None if path is None else os.fspath(path)
        self._records: dict = {}
        if self._path is None:
            return
        lines = _read(self._path)
        if not lines:
            _write(self._path, {"settings": settings})
        elif lines[0].get("settings") != plain(settings):
            raise ValueError(
                f"Expected {self._path} to hold partial results of this evaluation: of the same model, attacks and "
                f"settings. Received those of another: remove it, or give another path."
            )
        self._records = {(tuple(line["run"]), line["batch"]): line for line in lines[1:]}

    def find(self, run: Sequence, batch: int, data: str) -> Optional[AttackRecord]:
        """The record of a batch, or `None` if the batch is not finished.

        Args:
          run: the attack's name and its radius.
          batch: its number.
          data: the `digest` of the batch.

        Raises:
          ValueError: if the record was made of other data, or is not one.
        """
        line = self._records.get((tuple(run), batch))
        if line is None:
            return None
        if line["data"] != data:
            raise ValueError(
                f"Expected batch {batch} to be the one that {self._path} has results of. Received other images or "
                "labels: an evaluation can only go on over a data set in a fixed order."
            )
        return AttackRecord.from_dict(line["record"])

    def add(self, run: Sequence, batch: int, data: str, record: AttackRecord) -> None:
        """Keeps the record of a batch. The other arguments are those of `find`."""
        if self._path is not None:
            _write(self._path, {"run": run, "batch": batch, "data": data, "record": record.to_dict()})


def _read(path):
    """The lines of a file that are whole; what is cut off is removed from it."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise ValueError(f"Expected {path} to hold partial results. Received {error}.") from None


def _write(path, line):
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(plain(line), allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def digest(arrays: Iterable[np.ndarray]) -> str:
    """A checksum of arrays, eight hexadecimal digits, which tells whether data or weights are the same.

    ```python
    from keras_flowreg.evaluation.journal import digest

    print(digest(model.get_weights()))
    ```
    """
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
    return f"{checksum:08x}"

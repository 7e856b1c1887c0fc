"""A file that an evaluation writes as it goes, so that one that was killed can go on."""

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np

from keras_flowreg import files
from keras_flowreg.evaluation.plain import plain

# The first line's first entry: which file this is, and in which version.
_MARK, _VERSION = "keras_flowreg partial results", 1
_KEYS = {"run", "batch", "data", "record"}  # of the other lines


class Journal:
    """A file of finished work, so that an evaluation that was killed can go on.

    It has one JSON object a line. The first one says what file this is, and holds the settings. Each line is flushed to
    the disk before the next is computed. A last line that was cut off is dropped. A file that begins otherwise is not
    touched. One process at a time may write to it.

    Args:
      path: the path of the file; `None` to keep nothing.
      settings: the settings that the records belong to, as plain values.

    Raises:
      ValueError: if the file is another one, holds records of other settings, or another process writes to it.
      OSError: if it cannot be written to.

    ```python
    from keras_flowreg.evaluation.journal import Journal

    journal = Journal("partial.jsonl", settings={"seed": 0})
    print(journal.find(("FlowPGD", 0.4), 0, data="0a1b2c3d"))  # None: nothing is finished yet.
    ```
    """

    def __init__(self, path: Optional[Union[str, os.PathLike]], settings: Mapping[str, Any]):
        self._path = None if path is None else files.as_path("resume_from", path)
        self._records: dict = {}
        if self._path is None:
            return
        self._file = _opened(self._path)
        try:
            self._begin(settings)
        except ValueError:
            self._file.close()
            raise

    def find(self, run: Sequence, batch: int, data: str) -> Optional[dict[str, Any]]:
        """The record of a batch, as plain values, or `None` if the batch is not finished.

        Args:
          run: what was done: an attack's name and its radius, or what else tells it from the others.
          batch: its number.
          data: the `digest` of the batch.

        Raises:
          ValueError: if the record was made of other data.
        """
        line = self._records.get((tuple(run), batch))
        if line is None:
            return None
        if line["data"] != data:
            raise ValueError(
                f"Expected batch {batch} to be the one that {self._path} has results of. Received other images or "
                "labels: an evaluation can only go on over a data set in a fixed order."
            )
        return line["record"]

    def add(self, run: Sequence, batch: int, data: str, record: Mapping[str, Any]) -> None:
        """Keeps the record of a batch, plain values. The other arguments are those of `find`."""
        if self._path is not None:
            self._write({"run": run, "batch": batch, "data": data, "record": record})

    def close(self) -> None:
        """Lets another process write."""
        if self._path is not None:
            self._file.close()

    def _begin(self, settings):
        """Reads what the file holds, or writes its first line."""
        files.lock(self._file)
        first = {_MARK: _VERSION, "settings": plain(settings)}
        lines = self._read(encoded(first))
        if not lines:
            self._write(first)
        elif lines[0] != first:
            raise ValueError(
                f"Expected {self._path} to hold partial results of this evaluation: of the same model, attacks, "
                f"settings and version of this library. Received those of another: remove it, or give another path."
            )
        self._records = {(tuple(line["run"]), line["batch"]): line for line in lines[1:]}

    def _read(self, first):
        """The lines that are whole; what is cut off is removed from the file, once it is known to be one of these."""
        self._file.seek(0)
        content = self._file.read()
        mark = first[: first.index(b",")]
        if not (content.startswith(mark) or first.startswith(content)):
            raise ValueError(
                f"Expected {self._path} to hold partial results of an evaluation. Received another file, which is left as "
                "it is."
            )
        lines = _lines(content, self._path)
        self._file.truncate(content.rfind(b"\n") + 1)
        return lines

    def _write(self, line):
        end = self._file.seek(0, os.SEEK_END)
        try:
            text = encoded(plain(line))
            if self._file.write(text) < len(text):
                raise OSError(f"Expected {self._path} to be on a disk with room. Received a line cut off.")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)  # A line that is cut off would spoil the next one.
            raise


def read(path: Union[str, os.PathLike]) -> list[dict[str, Any]]:
    """The lines of a file of partial results, the first of which holds the settings.

    Raises:
      ValueError: if the file is another one.
      OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read()
    if not content.startswith(encoded({_MARK: _VERSION})[:-2]) or b"\n" not in content:
        raise ValueError(f"Expected {os.fspath(path)} to hold partial results of an evaluation. Received another file.")
    return _lines(content, path)


def encoded(line: Mapping[str, Any]) -> bytes:
    """A line as it is written."""
    return json.dumps(line, allow_nan=False).encode() + b"\n"


def _lines(content, path):
    """The lines that are whole."""
    whole = content[: content.rfind(b"\n") + 1].splitlines()
    return [_line(text, number, path) for number, text in enumerate(whole, start=1)]


def _line(text, number, path):
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict) or number > 1 and not set(line) >= _KEYS:
        raise ValueError(
            f"Expected {path} to hold partial results. Received line {number}, which is none: remove it, to go on from the others."
        )
    return line


def _opened(path):
    """A file to read and to add to."""
    files.expect_writable("resume_from", path)
    return open(path, "a+b", buffering=0)


def digest(arrays: Iterable[np.ndarray]) -> str:
    """A checksum of arrays, their shapes and dtypes, eight hexadecimal digits, which tells whether data are the same.

    ```python
    from keras_flowreg.evaluation.journal import digest

    print(digest(model.get_weights()))
    ```
    """
    checksum = 0
    for array in map(np.asarray, arrays):
        checksum = zlib.crc32(f"{array.dtype.str}{array.shape}".encode(), checksum)
        checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
    return f"{checksum:08x}"

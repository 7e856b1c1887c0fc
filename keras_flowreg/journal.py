"""A file that an evaluation writes as it goes, so that one that was killed can go on."""

import json
import os
import zlib

import numpy as np


class Journal:
    """Records of finished work, one JSON object a line, each flushed to the disk before the next is computed.

    The first line holds the settings. A last line that was cut off by a kill is dropped.

    Args:
      path: of the file; `None` to keep nothing.
      settings: what the records belong to.

    Raises:
      ValueError: if the file holds something else, or records of other settings.
    """

    def __init__(self, path, settings):
        self._path = None if path is None else os.fspath(path)
        self._records = {}
        if self._path is None:
            return
        lines = self._read()
        if not lines:
            self._write({"settings": settings})
        elif lines[0].get("settings") != json.loads(json.dumps(settings)):
            raise ValueError(
                f"Expected {self._path} to hold partial results of this evaluation: of the same model, attacks and "
                f"settings. Received those of another: remove it, or give another path."
            )
        self._records = {(tuple(line["run"]), line["batch"]): line for line in lines[1:]}

    def find(self, run, batch, data):
        """The record of a batch, or `None`; `data` is the checksum of the batch.

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

    def add(self, run, batch, data, record):
        """Keeps the record of a batch."""
        if self._path is not None:
            self._write({"run": list(run), "batch": batch, "data": data, "record": record})

    def _read(self):
        """The lines that are whole; what is cut off is removed from the file."""
        if not os.path.exists(self._path):
            return []
        with open(self._path, "rb") as file:
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise ValueError(f"Expected {self._path} to hold partial results. Received {error}.") from None

    def _write(self, line):
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def digest(arrays):
    """A checksum of arrays, by which data or weights are known again."""
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
    return f"{checksum:08x}"

"""An evaluation in parts, by as many processes or machines, and one report of all."""

import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

from keras_flowreg import files
from keras_flowreg.evaluation import journal
from keras_flowreg.ops.validation import expect_integer

Path = Union[str, os.PathLike]


class Shard(NamedTuple):
    """Which part of the batches an evaluation attacks: each `parts`-th one, from number `part` on.

    ```python
    from keras_flowreg.evaluation.shards import Shard

    print([number for number in range(10) if Shard(2, 4).takes(number)])  # [1, 5, 9]
    ```
    """

    part: int  # from 1
    parts: int

    def takes(self, batch: int) -> bool:
        """Whether a batch is in this part, by its number, from 0."""
        return batch % self.parts == self.part - 1

    def expect_batches(self, taken: int) -> None:
        """Checks that it has taken a batch."""
        if not taken:
            raise ValueError(f"Expected at least one batch in each shard. Received none in {self}.")

    def __str__(self):
        return f"{self.part}/{self.parts}"


def expect_shard(value: Optional[Sequence[int]]) -> Shard:
    """Checks `(part, parts)`; `None` is the whole."""
    if value is None:
        return Shard(1, 1)
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise ValueError(f"Expected `shard` to be (part, parts). Received {value!r}.")
    part, parts = (expect_integer("shard", number, least=1) for number in value)
    if part > parts:
        raise ValueError(f"Expected `shard` to be (part, parts), with a part of at most {parts}. Received {value!r}.")
    return Shard(part, parts)


def merge_partial_results(paths: Sequence[Path], output: Path) -> None:
    """Makes one file of the partial results of several shards.

    With it, `evaluate_robustness` without `shard` gives the report of all, and attacks only what no shard did.

    ```python
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
    attack = fr.attacks.RandomFlow(epsilon=0.4)
    for part in (1, 2):  # on as many machines
        fr.evaluate_robustness(model, data, attack, shard=(part, 2), resume_from=f"part-{part}.jsonl")
    fr.evaluation.merge_partial_results(["part-1.jsonl", "part-2.jsonl"], "whole.jsonl")
    report = fr.evaluate_robustness(model, data, attack, resume_from="whole.jsonl")
    ```

    Args:
      paths: the files that were given to the shards as `resume_from`.
      output: where to write. What is there already has to be partial results of the same evaluation, and is kept.

    Raises:
      ValueError: if there is no file, one holds anything else, they are of different evaluations or versions, or another
        process writes to `output`.
      OSError: if one cannot be read, or `output` not be written.
    """
    sources = [os.fspath(path) for path in paths]
    if not sources:
        raise ValueError("Expected at least one file of partial results. Received none.")
    with contextlib.ExitStack() as stack:
        if os.path.exists(output):
            files.lock(stack.enter_context(open(output, "rb")))
            sources.append(os.fspath(output))
        lines = _merged(sources)
        files.write_text(output, "".join(journal.encoded(line).decode() for line in lines))


def _merged(sources):
    """The lines of several files, each once."""
    parts = [journal.read(path) for path in sources]
    first, merged = parts[0][0], {}
    for path, (settings, *lines) in zip(sources, parts):
        if settings != first:
            raise ValueError(f"Expected partial results of one evaluation. Received those of another in {path}.")
        merged.update({(tuple(line["run"]), line["batch"]): line for line in lines})
    return [first, *merged.values()]

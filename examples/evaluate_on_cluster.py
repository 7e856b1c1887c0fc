r"""Evaluates a saved classifier in parts, on the workers of a Dask cluster, and makes one report of all.

    python examples/evaluate_on_cluster.py --model=digits.keras --workers=2 --parts=8 --output=report
    python examples/evaluate_on_cluster.py --model=digits.keras --scheduler=tcp://head:8786 --parts=64 --output=report

The first starts the workers on this machine; the second gives the parts to a cluster that runs (`dask scheduler` and, on each
machine, `dask worker --nthreads=1`), whose workers read the model and write beside the output: the paths must be theirs, too.
What a lost worker has not done another one does. docs/scaling.md says more.

The other flags are those of evaluate.py.
"""

import os
from typing import Any, NamedTuple

import distributed
from absl import flags

import keras_flowreg as fr
from keras_flowreg.batches import Batches
from keras_flowreg.commands import command_line, datasets, evaluate, models, outputs
from keras_flowreg.commands.flags import shard


class Evaluation(NamedTuple):
    """What a worker must know to evaluate a part."""

    model: str
    safe_mode: bool
    data: dict[str, Any]
    report: dict[str, Any]
    parts: int
    output: str

    def path(self, part):
        """Where the partial results of a part are."""
        return f"{self.output}-part{part}.jsonl"

    def run(self, part):
        """Attacks one part, on a worker. What is done of it is not done again."""
        fr.evaluate_robustness(
            models.load_from(self.model, self.safe_mode),
            evaluate.load_images(**self.data),
            **self.report,
            shard=(part, self.parts),
            resume_from=self.path(part),
            check=False,  # It is done once, for the report of all.
            verbose=0,
        )
        return part


def define_flags():
    """Those of an evaluation; where its parts are done."""
    evaluate.define_flags()
    flags.DEFINE_integer("parts", 8, "how many parts there are at most: several for each worker", lower_bound=1)
    flags.DEFINE_integer("workers", 2, "processes to start on this machine", lower_bound=1)
    flags.DEFINE_string("scheduler", None, "the address of a Dask scheduler, whose workers are used instead")
    flags.mark_flag_as_required("output")


def connect():
    """A client of the scheduler of the flags, or of workers that are started here."""
    if flags.FLAGS.scheduler:
        return distributed.Client(flags.FLAGS.scheduler)
    # A worker has one thread: TensorFlow has its own. And nothing limits its memory, or is served to browsers.
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
    return distributed.Client(n_workers=flags.FLAGS.workers, processes=True, **options)


def do_parts(evaluation):
    """Has all parts evaluated."""
    parts = range(1, evaluation.parts + 1)
    with connect() as client:
        for address, process in client.run(os.getpid).items():
            print(f"Worker {address}: process {process}", flush=True)
        futures = client.map(evaluation.run, parts, pure=False)
        for future in distributed.as_completed(futures):
            print(f"Part {future.result()} of {len(parts)} is done", flush=True)


def _absolute(option):
    """The path that an option is, if it is one of something, for workers that started in another folder."""
    return os.path.abspath(option) if option and os.path.exists(option) else option


def main():
    args = flags.FLAGS
    if args.merge or shard() != (1, 1):
        raise ValueError("Expected neither --merge nor --shard: the parts are those of --parts. Received one of them.")
    outputs.expect_report_path(args.output, "output")
    data = evaluate.data_options()
    if data["dataset"] not in datasets.NAMES:
        data["dataset"] = _absolute(data["dataset"])
    data["data_dir"] = _absolute(data["data_dir"])
    batches = sum(1 for _ in Batches(evaluate.load_images(**data), "dataset", examples=args.examples))
    evaluation = Evaluation(
        _absolute(args.model),
        args.safe_mode,
        data,
        evaluate.report_options(),
        min(args.parts, batches),  # A part has a batch at least.
        os.path.abspath(args.output),
    )
    do_parts(evaluation)
    args.merge = [evaluation.path(part) for part in range(1, evaluation.parts + 1)]
    return evaluate.main()


if __name__ == "__main__":
    command_line.run(main, define_flags)

r"""Puts the paper's claims to the test: trains and attacks a grid of methods, and writes the report.

    python examples/reproduce.py --preset=quick --output=quick                # 11 minutes on 2 cores
    python examples/reproduce.py --preset=cpu --output=docs/reproduction      # what docs/reproduction.md shows: hours
    python examples/reproduce.py --preset=paper --output=paper                # the authors' setting, for one GPU

Each cell (data set, network, method, weight, seed) writes one JSON file when it is done; start a killed study again,
and it goes on at the epoch and the batch of attacked images that it had reached. --cell=NAME runs one alone, by its
file's name. --shard=2/4 runs the second quarter of the cells, so that four machines can share a study: collect their JSON
files in one folder, and --report writes report.md and its figures from those that are there.
"""

import dataclasses
import json
import os

from absl import flags

from flowreg_examples import study, study_report
from flowreg_examples.presets import PRESETS
from keras_flowreg import files
from keras_flowreg.commands import command_line, datasets, recipes
from keras_flowreg.commands.command_line import Result
from keras_flowreg.commands.flags import define_shard_flag, shard
from keras_flowreg.evaluation.plain import plain


def define_flags():
    """Which study, which part of it, and where its results go."""
    flags.DEFINE_enum("preset", "quick", list(PRESETS), "which study")
    flags.DEFINE_string("output", None, "a folder for the JSON files, the report and the figures", required=True)
    flags.DEFINE_string("scratch", None, "a folder for what is not done yet; by default in --output")
    define_shard_flag("cells")
    flags.DEFINE_multi_enum("dataset", None, datasets.NAMES, "only these; may be given several times")
    flags.DEFINE_multi_enum("method", None, recipes.METHODS, "only these; may be given several times")
    flags.DEFINE_multi_string("cell", None, "only these, by name; may be given several times")
    flags.DEFINE_integer("seeds", None, "how many seeds, if not the study's own number", lower_bound=1)
    flags.DEFINE_integer("examples", None, "images to attack, if not the study's own number", lower_bound=1)
    flags.DEFINE_bool("report", False, "only write the report, from the JSON files that are there")


def cells():
    """The cells that the flags ask for."""
    chosen = PRESETS[flags.FLAGS.preset].cells(flags.FLAGS.seeds, flags.FLAGS.cell)
    if flags.FLAGS.dataset:
        chosen = [cell for cell in chosen if cell.setting.dataset in flags.FLAGS.dataset]
    if flags.FLAGS.method:
        chosen = [cell for cell in chosen if cell.method in flags.FLAGS.method]
    if flags.FLAGS.examples:
        chosen = [_with_examples(cell, flags.FLAGS.examples) for cell in chosen]
    number, count = shard()
    return chosen[number - 1 :: count]


def _with_examples(cell, examples):
    return dataclasses.replace(cell, setting=dataclasses.replace(cell.setting, examples=examples))


def result_path(cell):
    return os.path.join(flags.FLAGS.output, f"{cell.name}.json")


def expect_to_run(chosen):
    """Checks, at the start, that what is there are results, those of these cells too, and that their data sets are there."""
    study_report.read(flags.FLAGS.output)
    for cell in chosen:
        if os.path.exists(result_path(cell)):
            study.expect_result_of(cell, result_path(cell))
    for setting in {cell.setting.dataset: cell.setting for cell in chosen}.values():
        setting.load(batch_size=1)


def run_cells(chosen):
    """Runs the cells that have no result yet."""
    scratch = flags.FLAGS.scratch or os.path.join(flags.FLAGS.output, "scratch")
    for number, cell in enumerate(chosen):
        if os.path.exists(result_path(cell)):
            continue
        print(f"\n[{number + 1}/{len(chosen)}] {cell.name}", flush=True)
        result = study.run(cell, PRESETS[flags.FLAGS.preset], os.path.join(scratch, cell.name))
        files.write_text(result_path(cell), json.dumps(plain(result), allow_nan=False))


def main():
    study_report.expect_writable(flags.FLAGS.output)
    if not flags.FLAGS.report:
        chosen = cells()
        expect_to_run(chosen)
        run_cells(chosen)
    path = study_report.write(flags.FLAGS.output)
    return Result(f"\nThe report is {path}", {"report": path})


if __name__ == "__main__":
    command_line.run(main, define_flags)

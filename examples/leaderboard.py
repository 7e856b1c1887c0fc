r"""Enters a classifier into the leaderboard, checks an entry or measures it again, or draws the table anew.

    python examples/leaderboard.py --dataset=digits --name=mine --model=mine.keras --training="20 epochs, plain"
    python examples/leaderboard.py --check=digits/flow_gradient
    python examples/leaderboard.py --again=digits/flow_gradient
    python examples/leaderboard.py

--model is a .keras, .h5 or .hdf5 file, a SavedModel or a TF-Hub handle, with logits. All are attacked in the same way:
flowreg_examples/leaderboard.py has the protocol. --certify proves, too, what is robust, of a network of layers that have
rules for bounds. --check evaluates an entry anew, and fails if it comes out otherwise. --again writes it as it comes out.
"""

import os

from absl import flags

import keras_flowreg as fr
from flowreg_examples import leaderboard
from keras_flowreg import files
from keras_flowreg.commands import command_line
from keras_flowreg.commands.command_line import Result
from keras_flowreg.export import expect_exportable


def define_flags():
    """Which classifier, how it was trained, and where the leaderboard is."""
    flags.DEFINE_string("model", None, "the classifier to enter")
    flags.DEFINE_enum("dataset", "digits", list(leaderboard.RADII), "the data set that it was trained on")
    flags.DEFINE_string("name", None, "what it is called")
    flags.DEFINE_string("training", "", "how it was trained: in words, or the command")
    flags.DEFINE_bool("certify", False, "whether to prove, too, what is robust")
    flags.DEFINE_string("check", None, "an entry, such as digits/plain, to evaluate anew")
    flags.DEFINE_string(
        "again", None, "an entry to evaluate anew and to write, after a change of the attacks or proofs"
    )
    flags.DEFINE_string("folder", "leaderboard", "the folder of all entries")
    flags.DEFINE_string("page", os.path.join("docs", "leaderboard.md"), "where to write the tables")
    flags.DEFINE_string("partial_results", None, "a file for partial results, to go on from when killed")
    flags.DEFINE_integer("examples", leaderboard.EXAMPLES, "test images, if not the protocol's number", lower_bound=1)
    flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets keeps its data sets")


def evaluate(model, dataset, certify):
    args = flags.FLAGS
    options = {"data_dir": args.data_dir, "examples": args.examples, "resume_from": args.partial_results}
    return leaderboard.evaluate(model, dataset, certify, **options)


def enter():
    """Evaluates the classifier of the flags, and writes its entry."""
    args = flags.FLAGS
    if not args.name or os.path.basename(args.name) != args.name:
        raise ValueError(f"Expected `--name` to be a name without a slash. Received {args.name!r}.")
    path = leaderboard.json_path(args.folder, args.dataset, args.name)
    files.expect_writable("--folder", path)
    leaderboard.expect_free(path, args.model)
    model = fr.load_classifier(args.model)
    if os.path.isfile(args.model):
        expect_exportable(model, path.removesuffix(".json"), overwrite=True)
    report = evaluate(model, args.dataset, args.certify)
    leaderboard.enter(args.folder, args.dataset, args.name, args.model, model, args.training, report)


def entry_of(flag, name):
    """The entry that a flag names, and the path of its JSON file."""
    path = leaderboard.json_path(flags.FLAGS.folder, *os.path.split(name))
    if not os.path.exists(path):
        raise ValueError(f"Expected `{flag}` to be an entry, such as digits/plain. Received {name!r}.")
    return leaderboard.Entry.read(path), path


def evaluate_again(entry):
    """A new report of an entry."""
    model = fr.load_classifier(leaderboard.handle_of(flags.FLAGS.folder, entry))
    return evaluate(model, entry.dataset, bool(entry.report.certified))


def check():
    """Evaluates an entry anew, and compares."""
    entry, _ = entry_of("--check", flags.FLAGS.check)
    anew = evaluate_again(entry)
    leaderboard.expect_same(entry, anew)
    different = sum(leaderboard.differences(entry, anew).values())
    text = f"{flags.FLAGS.check} is as it was: {different} results of {anew.examples} examples differ."
    return Result(text, anew.to_dict())


def renew():
    """Evaluates an entry anew, and writes it as it comes out."""
    entry, path = entry_of("--again", flags.FLAGS.again)
    files.expect_writable("--folder", path)
    leaderboard.renew(flags.FLAGS.folder, entry, evaluate_again(entry))


def main():
    args = flags.FLAGS
    if args.check:
        return check()
    files.expect_writable("--page", args.page)
    leaderboard.expect_page(args.page)
    if args.again:
        renew()
    if args.model:
        enter()
    entries = leaderboard.read_all(args.folder)
    if not entries:
        raise ValueError(f"Expected `--folder` to hold entries. Received {args.folder}, which holds none.")
    text = leaderboard.page(entries)
    files.write_text(args.page, text)
    return Result(text, {"page": args.page, "entries": [f"{entry.dataset}/{entry.name}" for entry in entries]})


if __name__ == "__main__":
    command_line.run(main, define_flags)

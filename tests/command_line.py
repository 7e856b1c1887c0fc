"""Runs an example script in this process, as its command line would."""

import contextlib
import importlib.util
import io
import pathlib
from unittest import mock

from absl import flags

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def run(script, *arguments):
    """Runs a script's main function; returns its exit code, and what it would print as its last words."""
    before = set(flags.FLAGS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), mock.patch("absl.app.run", side_effect=_run_main(arguments)):
            _load(script)
    except SystemExit as end:
        return (0, "") if end.code in (None, 0) else (1, str(end.code))
    except flags.Error as error:  # absl prints it, and leaves.
        return 1, str(error)
    finally:
        flags.FLAGS.unparse_flags()
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
    return 0, ""


def _run_main(arguments):
    return lambda main: main(flags.FLAGS(["script.py", *arguments]))


def _load(script):
    spec = importlib.util.spec_from_file_location("__main__", EXAMPLES / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

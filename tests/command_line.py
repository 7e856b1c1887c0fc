"""Runs a script or a command: in this process, as its command line would, or in one of its own."""

import contextlib
import io
import os
import pathlib
import runpy
import subprocess
import sys
from unittest import mock

from absl import flags

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(script, *arguments):
    """Runs a script, or keras_flowreg/__main__.py; returns its exit code, and what it prints to both outputs."""
    runs = mock.patch("absl.app.run", side_effect=lambda main, argv, flags_parser: main(flags_parser(argv)))
    arguments = mock.patch.object(sys, "argv", [script, *arguments])
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            with _no_flags(), runs, arguments:
                runpy.run_path(str(ROOT / script), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return code, out.getvalue(), err.getvalue()


def started(test, script, *arguments, **environment):
    """A script in a process of its own, whose outputs are in `stdout`. It ends with the test."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    test.addCleanup(process.stdout.close)
    test.addCleanup(process.wait)
    test.addCleanup(process.terminate)
    return process


@contextlib.contextmanager
def _no_flags():
    """Hides the flags of other modules than absl's, which a script might define too."""
    by_module = flags.FLAGS.flags_by_module_dict()
    own = {flag.name for module, held in by_module.items() if module.startswith("absl.") for flag in held}
    hidden = {name: flags.FLAGS[name] for name in flags.FLAGS if name not in own}
    was_parsed = flags.FLAGS.is_parsed()
    for name in hidden:
        delattr(flags.FLAGS, name)
    try:
        yield
    finally:
        for name in set(flags.FLAGS) - own:
            delattr(flags.FLAGS, name)
        for name, flag in hidden.items():
            flags.FLAGS[name] = flag
        flags.FLAGS.unparse_flags()
        if was_parsed:
            flags.FLAGS.mark_as_parsed()

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
    runs = mock.patch("absl.app.run", side_effect=lambda main: main(flags.FLAGS(["script.py", *arguments])))
    try:
        with contextlib.redirect_stdout(io.StringIO()), _no_flags(), runs:
            _load(script)
    except SystemExit as end:
        return (0, "") if end.code in (None, 0) else (1, str(end.code))
    except flags.Error as error:  # absl prints it, and leaves.
        return 1, str(error)
    return 0, ""


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


def _load(script):
    spec = importlib.util.spec_from_file_location("__main__", EXAMPLES / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

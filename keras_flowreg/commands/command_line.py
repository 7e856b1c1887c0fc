"""How a command is run: its flags, its result as text or as JSON, its errors as one line, its exit code.

Exit codes: 0, it is done; 1, it could not be done, and the last line says why; 2, the command line is wrong; 130, it was
interrupted.
"""

import contextlib
import functools
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import tensorflow as tf
from absl import app, flags, logging

from keras_flowreg.evaluation.plain import plain

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
_MISTAKES = (ValueError, TypeError, OSError, RuntimeError, ImportError, tf.errors.OpError)


class Result(NamedTuple):
    """What a command has to say: in words, and as plain values for --json."""

    text: str
    values: Mapping[str, Any]


Main = Callable[[], Optional[Result]]


def run(main: Main, define_flags: Callable[[], None], arguments: Optional[Sequence[str]] = None) -> None:
    """Runs a command, and ends the process.

    Args:
      main: does the work; the text at the top of its module is the command's help.
      define_flags: defines its flags.
      arguments: the command's name and its flags; `None` for those of this process.
    """
    arguments = list(sys.argv if arguments is None else arguments)
    define_flags()
    flags.DEFINE_bool("json", False, "print the result as JSON, and all else to the standard error")
    flags.DEFINE_bool("debug", False, "show where in the code an error was raised")
    # They are told to those who choose a stack, not to those who run a command.
    warnings.filterwarnings("ignore", r"\s*TensorFlow Addons", UserWarning)
    app.run(lambda _: _run(main), argv=arguments, flags_parser=functools.partial(_parse, main=main))


def _parse(arguments, main):
    """Parses the flags, and ends the process if it cannot, or if help is asked for."""
    if {"-h", "--help"} & set(arguments):
        print(_help(main, arguments[0]))
        sys.exit()
    try:
        _, *rest = flags.FLAGS(arguments)
        if rest:
            raise flags.Error(f"Expected flags alone. Received {' '.join(rest)}")
    except flags.Error as error:
        _end(f"{' '.join(str(error).split())} ({arguments[0]} --help lists the flags.)", MISUSED)
    return arguments


def _help(main, name):
    module = sys.modules[main.__module__]
    own = sys.argv[0] if main.__module__ == "__main__" else main.__module__
    return f"{name}: {module.__doc__}{flags.FLAGS.module_help(own)}{flags.FLAGS.module_help(__name__)}"


def _run(main):
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    progress = contextlib.redirect_stdout(sys.stderr) if flags.FLAGS.json else contextlib.nullcontext()
    try:
        with progress:
            result = main()
    except KeyboardInterrupt:
        _end("Interrupted.", INTERRUPTED)
    except _MISTAKES as error:
        if flags.FLAGS.debug:
            raise
        _end(_in_a_line(error), FAILED)
    if result is not None:
        print(json.dumps(plain(result.values), indent=2, allow_nan=False) if flags.FLAGS.json else result.text)


def _end(line, code):
    print(line, file=sys.stderr)
    sys.exit(code)


def _in_a_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Keras and TensorFlow put lines around a message.
    ours = next((line[line.index("Expected ") :] for line in lines if "Expected " in line), None)
    return ours or f"{type(error).__name__}: {lines[0] if lines else 'no message'}"

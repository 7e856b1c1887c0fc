"""How the example scripts are run: what a user got wrong is one line, and not a traceback."""

import functools
import sys

import tensorflow as tf
from absl import app, logging

_MISTAKES = (ValueError, TypeError, OSError, RuntimeError, ImportError, tf.errors.OpError)


def run(main):
    """Runs a script's main function; see `one_line_errors`."""
    app.run(one_line_errors(main))


def one_line_errors(main):
    """A main function that ends with exit code 1 and one line where it raises an error.

    --verbosity=1 shows the traceback.
    """

    @functools.wraps(main)
    def checked(arguments):
        try:
            if len(arguments) > 1:
                raise ValueError(f"Expected flags alone. Received {' '.join(arguments[1:])}")
            return main(arguments)
        except _MISTAKES as error:
            logging.debug("%s", error, exc_info=True)
            sys.exit(_in_a_line(error))

    return checked


def _in_a_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Keras and TensorFlow put lines around a message.
    ours = next((line[line.index("Expected ") :] for line in lines if "Expected " in line), None)
    return ours or f"{type(error).__name__}: {lines[0] if lines else 'no message'}"

"""`keras-flowreg`, or `python -m keras_flowreg`: measures, mends and hands on a Keras classifier.

keras-flowreg COMMAND --help lists the flags of a command. Exit codes: 0, done; 1, it could not be done, and the last line
says why; 2, the command line is wrong; 130, interrupted.
"""

import sys

from keras_flowreg import compat
from keras_flowreg.commands import attack, certify, command_line, evaluate, export, train

COMMANDS = {"train": train, "evaluate": evaluate, "attack": attack, "certify": certify, "export": export}


def main() -> None:
    """Runs the command that the first argument names."""
    name, *arguments = sys.argv[1:] or [""]
    if name in COMMANDS:
        command = COMMANDS[name]
        command_line.run(command.main, command.define_flags, [f"keras-flowreg {name}", *arguments])
    elif name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(", ".join(f"{package} {version}" for package, version in compat.versions().items()))
    else:
        print(f"Expected a command: {', '.join(COMMANDS)}. Received {name or 'none'}.", file=sys.stderr)
        sys.exit(command_line.MISUSED)


def _help():
    lines = [f"  {name:10}{(module.__doc__ or '').splitlines()[0]}" for name, module in COMMANDS.items()]
    return "\n".join([__doc__ or "", *lines])


if __name__ == "__main__":
    main()

"""What `keras-flowreg` does from a command line, and what the commands share: data sets, networks, recipes and flags.

A command is a module with `define_flags()` and `main()`, and a line in `COMMANDS`.
"""

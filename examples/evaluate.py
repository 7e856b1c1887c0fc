"""Reports how far deformations fool a saved classifier: as a table, as JSON and as a figure.

The same as keras-flowreg evaluate: python examples/evaluate.py --help
"""

from keras_flowreg.commands import command_line, evaluate

if __name__ == "__main__":
    command_line.run(evaluate.main, evaluate.define_flags)

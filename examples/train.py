"""Trains a classifier by one of several methods against deformations, and saves it.

The same as keras-flowreg train: python examples/train.py --help
"""

from keras_flowreg.commands import command_line, train

if __name__ == "__main__":
    command_line.run(train.main, train.define_flags)

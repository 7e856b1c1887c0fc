"""Writes a saved classifier as a reusable SavedModel, for TensorFlow Hub, Serving and Lite, with its model card.

The same as keras-flowreg export: python examples/export.py --help
"""

from keras_flowreg.commands import command_line, export

if __name__ == "__main__":
    command_line.run(export.main, export.define_flags)

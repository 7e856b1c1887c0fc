"""Proves of how many images no flow of a radius can fool a saved classifier.

The same as keras-flowreg certify: python examples/certify.py --help
"""

from keras_flowreg.commands import certify, command_line

if __name__ == "__main__":
    command_line.run(certify.main, certify.define_flags)

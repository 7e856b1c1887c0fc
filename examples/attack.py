"""Attacks images with a saved classifier, and draws what happens to them.

The same as keras-flowreg attack: python examples/attack.py --help
"""

from keras_flowreg.commands import attack, command_line

if __name__ == "__main__":
    command_line.run(attack.main, attack.define_flags)

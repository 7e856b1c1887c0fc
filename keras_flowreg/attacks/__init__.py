"""Attacks: searches of a threat model, as Keras layers."""

from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.pgd import FlowPGD

__all__ = ["Attack", "FlowPGD"]

"""Attacks: searches of a threat model, as Keras layers."""

from keras_flowreg.attacks.base import Attack, AttackResult
from keras_flowreg.attacks.fgsm import FlowFGSM
from keras_flowreg.attacks.pgd import FlowPGD

__all__ = ["Attack", "AttackResult", "FlowFGSM", "FlowPGD"]

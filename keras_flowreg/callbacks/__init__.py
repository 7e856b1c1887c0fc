"""Callbacks: schedules of the penalty and of the attack, and monitors of gradients and of robustness."""

from keras_flowreg.callbacks.attack_pictures import AttackPictures
from keras_flowreg.callbacks.monitors import FlowGradientMonitor, RobustAccuracyMonitor
from keras_flowreg.callbacks.restore_order import RestoreOrder
from keras_flowreg.callbacks.warmups import SHAPES, AttackWarmup, EpsilonWarmup, PenaltyWarmup

__all__ = [
    "SHAPES",
    "AttackPictures",
    "AttackWarmup",
    "EpsilonWarmup",
    "FlowGradientMonitor",
    "PenaltyWarmup",
    "RestoreOrder",
    "RobustAccuracyMonitor",
]

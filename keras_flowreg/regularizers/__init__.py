"""Regularizers: what is added to the loss, so that a model resists a perturbation.

base.py says what one is, gradient.py has the gradient regularizer for any perturbation, flow_consistency.py the one that
compares predictions, and interval_bound.py certified training. A new regularizer is one new file beside them.
"""

from keras_flowreg.regularizers.base import Regularizer
from keras_flowreg.regularizers.flow_consistency import FlowConsistencyRegularizer
from keras_flowreg.regularizers.flow_gradient import FlowGradientRegularizer
from keras_flowreg.regularizers.gradient import (
    GRADIENT_PLACES,
    METHODS,
    MODEL_MODES,
    GradientRegularizer,
    whole_examples,
)
from keras_flowreg.regularizers.input_gradient import InputGradientRegularizer
from keras_flowreg.regularizers.interval_bound import IntervalBoundRegularizer
from keras_flowreg.regularizers.penalties import GRADIENT_NORMS

__all__ = [
    "FlowConsistencyRegularizer",
    "FlowGradientRegularizer",
    "GRADIENT_NORMS",
    "GRADIENT_PLACES",
    "GradientRegularizer",
    "InputGradientRegularizer",
    "IntervalBoundRegularizer",
    "METHODS",
    "MODEL_MODES",
    "Regularizer",
    "whole_examples",
]

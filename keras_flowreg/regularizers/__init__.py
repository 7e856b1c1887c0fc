"""Gradient regularizers: penalties on the gradient of the loss with respect to a perturbation.

base.py has the one for any perturbation. A new regularizer is one new file beside it.
"""

from keras_flowreg.regularizers.base import GRADIENT_PLACES, METHODS, MODEL_MODES, GradientRegularizer, whole_examples
from keras_flowreg.regularizers.flow_gradient import FlowGradientRegularizer
from keras_flowreg.regularizers.input_gradient import InputGradientRegularizer
from keras_flowreg.regularizers.penalties import GRADIENT_NORMS

__all__ = [
    "FlowGradientRegularizer",
    "GRADIENT_NORMS",
    "GRADIENT_PLACES",
    "GradientRegularizer",
    "InputGradientRegularizer",
    "METHODS",
    "MODEL_MODES",
    "whole_examples",
]

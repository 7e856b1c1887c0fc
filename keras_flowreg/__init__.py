"""Resistance to adversarial deformations for Keras classifiers, by regularizing flow gradients."""

from keras_flowreg import compat  # noqa: F401  First: it says what to install where there is no Keras.

# isort: split
from keras_flowreg import (
    attacks,
    balls,
    batches,
    callbacks,
    certification,
    checks,
    evaluation,
    files,
    layers,
    ops,
    perturbations,
    pictures,
    untrusted,
)
from keras_flowreg.binary import two_class_classifier
from keras_flowreg.certification import Certificate, certify
from keras_flowreg.evaluation import RobustnessReport, evaluate_robustness
from keras_flowreg.export import export
from keras_flowreg.first_order import FirstOrderBounds, first_order_bounds
from keras_flowreg.gradients import flow_gradients, input_gradients, perturbation_gradients
from keras_flowreg.models import FlowRegularizedModel
from keras_flowreg.ops import normalized_from_pixels, pixels_from_normalized, weight_from_paper
from keras_flowreg.regularizers import (
    FlowConsistencyRegularizer,
    FlowGradientRegularizer,
    GradientRegularizer,
    InputGradientRegularizer,
    IntervalBoundRegularizer,
    Regularizer,
)
from keras_flowreg.saved_classifier import load_classifier
from keras_flowreg.second_derivatives import exact_second_derivatives

__version__ = "0.1.0"

__all__ = [
    "Certificate",
    "FirstOrderBounds",
    "FlowConsistencyRegularizer",
    "FlowGradientRegularizer",
    "FlowRegularizedModel",
    "GradientRegularizer",
    "InputGradientRegularizer",
    "IntervalBoundRegularizer",
    "Regularizer",
    "RobustnessReport",
    "attacks",
    "balls",
    "batches",
    "callbacks",
    "certification",
    "certify",
    "checks",
    "evaluate_robustness",
    "evaluation",
    "exact_second_derivatives",
    "export",
    "files",
    "first_order_bounds",
    "flow_gradients",
    "input_gradients",
    "layers",
    "load_classifier",
    "normalized_from_pixels",
    "ops",
    "perturbation_gradients",
    "perturbations",
    "pictures",
    "pixels_from_normalized",
    "two_class_classifier",
    "untrusted",
    "weight_from_paper",
]

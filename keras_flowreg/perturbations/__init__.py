"""Perturbations T(x; θ): how an image may be changed."""

from keras_flowreg.perturbations.additive import Additive
from keras_flowreg.perturbations.affine import Affine
from keras_flowreg.perturbations.base import Perturbation, TapeLinearized
from keras_flowreg.perturbations.flow import Flow
from keras_flowreg.perturbations.smooth_flow import SmoothFlow

__all__ = ["Additive", "Affine", "Flow", "Perturbation", "SmoothFlow", "TapeLinearized"]

"""Perturbations T(x; θ): how an image may be changed."""

from keras_flowreg.perturbations.additive import Additive
from keras_flowreg.perturbations.affine import Affine
from keras_flowreg.perturbations.base import Perturbation, TapeLinearized
from keras_flowreg.perturbations.flow import Flow

__all__ = ["Additive", "Affine", "Flow", "Perturbation", "TapeLinearized"]

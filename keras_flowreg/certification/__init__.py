"""What is proven: bounds of a network over every image that a flow in a ball can make.

intervals.py  what a value can be
reach.py      what an image can become
linearity.py  whether what is called linear is so; envelopes.py whether an activation lies between its lines
rounding.py   how much more a sum of many terms is rounded
steps.py      what an operation does to bounds; activations.py for those between lines, curves.py for those that bend one way
products.py   products, squares and roots; softmax.py for softmax
rules.py      the table from layers to steps; what ends in _rules.py fills it; arithmetic.py has operations of numbers
calls.py      the calls that a functional model is made of; tracing.py makes one of a layer of any other `call`
layouts.py    where a tensor has its batch; rows.py takes the rows of an image in it for images
network.py    a Keras model as a list of steps
leads.py      the forms of the logits that are to be positive
windows.py    coefficients on a part of an image
forms.py      linear forms on their way backward
bounds.py     intervals forward, linear forms backward
choices.py    what linear forms may choose on their way, optimized
slopes.py     linear forms by optimized lines
splits.py     halves of intervals
refutations.py  what no bound can prove
branches.py   linear forms over halves of halves
prover.py     the methods, one after the other
saturation.py  what float32 leaves of a lead behind a last sigmoid
certify.py    certificates
initialization.py  weights to begin certified training with
"""

from keras_flowreg.certification.activations import Clipped, LeakyReLU, ParametricReLU, Sigmoid, Smooth
from keras_flowreg.certification.certify import Certificate, certify
from keras_flowreg.certification.curves import Curve
from keras_flowreg.certification.initialization import initialize
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.products import InverseRoot, Normalized, Product, Square
from keras_flowreg.certification.prover import METHODS
from keras_flowreg.certification.reach import reach_box
from keras_flowreg.certification.rules import register_rule
from keras_flowreg.certification.softmax import Softmax
from keras_flowreg.certification.steps import Elementwise, Linear, MaxPool, Step, Taking

__all__ = [
    "Certificate",
    "Clipped",
    "Curve",
    "Elementwise",
    "Interval",
    "InverseRoot",
    "LeakyReLU",
    "Linear",
    "METHODS",
    "MaxPool",
    "Normalized",
    "ParametricReLU",
    "Product",
    "Sigmoid",
    "Smooth",
    "Softmax",
    "Square",
    "Step",
    "Taking",
    "certify",
    "initialize",
    "reach_box",
    "register_rule",
]

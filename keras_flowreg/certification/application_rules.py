"""Rules for layers that networks of `keras.applications` have for themselves."""

import sys

import keras

from keras_flowreg.certification.normalization_rules import Scale
from keras_flowreg.certification.rules import register_rule
from keras_flowreg.certification.steps import Linear
from keras_flowreg.certification.windows import Sliding

_CONVNEXT, _INCEPTION_RESNET = (
    sys.modules[network.__module__]
    for network in (keras.applications.ConvNeXtTiny, keras.applications.InceptionResNetV2)
)


@register_rule(_CONVNEXT.LayerScale)
def _layer_scale(layer):
    return [Scale(layer.gamma, 0.0)]


@register_rule(_CONVNEXT.StochasticDepth)
def _stochastic_depth(layer):
    return []


@register_rule(_INCEPTION_RESNET.CustomScaleLayer)
def _sum_with_scale(layer):
    def scaled_sum(scale):
        return lambda first, second: first + scale * second

    return [Linear(scaled_sum(layer.scale), absolute=scaled_sum(abs(layer.scale)), sliding=Sliding())]

"""Random augmentation at a network's front, which a penalty leaves alone.

Many augmentations have no derivative, or none that could be differentiated once more: of contrast, hue, crops. A penalty
needs none of them where they come first: it asks how the loss changes with the images that they give.
"""

import weakref
from typing import Any, Optional

import keras
import tensorflow as tf

from keras_flowreg import compat, states
from keras_flowreg.types import Images, KerasModel
from keras_flowreg.wrapped import classifier_of

_PREFIXES = ("Random", "RandAugment", "AugMix", "CutMix", "MixUp", "AutoContrast", "Equalization", "Solarization")
# For each model its layers, and its two parts if it has them. They keep nothing alive but themselves.
_parts: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def after_augmentation(model: KerasModel, images: Images) -> tuple[KerasModel, Images]:
    """The part of a model behind its augmentation, and the images that it takes.

    Args:
      model: a Keras model. Sequential and functional ones without a `call` of their own are divided; others stay whole.
      images: `[batch, height, width, channels]`.

    Returns:
      `(model, images)`: the same layers without the random ones at the front, and images that went through those.
    """
    classifier = classifier_of(model)
    states.build(classifier, images)
    if not classifier.built:
        return model, images
    parts = _parts_of(classifier)
    if parts is None:
        return model, images
    augmentation, rest = parts
    return rest, tf.cast(augmentation(images, training=True), images.dtype)


def augmentation_behind_others(model: KerasModel) -> list[str]:
    """The names of the layers that augment, and do not stand at a model's front."""
    parts = _parts_of(model)
    rest = model if parts is None else parts[1]
    return [layer.name for layer in compat.all_layers(rest) if _augments(layer)]


def _parts_of(model):
    """The parts of a model; made anew where its layers have been replaced."""
    layers = getattr(model, "layers", [])
    divided, parts = _parts.get(model, ([], None))
    if [*map(id, layers)] != [*map(id, divided)]:
        with tf.init_scope():
            parts = _divided(model)
        _parts[model] = list(layers), parts
    return parts


def _divided(model: KerasModel) -> Optional[tuple[KerasModel, KerasModel]]:
    """Two models that share a model's layers: its augmentation, and the rest."""
    inputs: Any = getattr(model, "inputs", None)
    tensor = inputs[0] if inputs else None
    if not any(_augments(layer) for layer in getattr(model, "layers", [])) or tensor is None:
        return None
    if not compat.runs_its_layers(model):
        return None
    output = _augmented(model, tensor)
    while output is not None:
        tensor, output = output, _augmented(model, output)
    if tensor is inputs[0]:
        return None
    outputs: Any = model.outputs
    return keras.Model(inputs[0], tensor), keras.Model(tensor, outputs[0])


def _augmented(model, tensor):
    """What the only layer that takes a symbolic tensor gives, if it augments."""
    outputs = [(layer, compat.symbolic_call(layer, tensor)) for layer in model.layers]
    takers = [(layer, output) for layer, output in outputs if output is not None]
    return takers[0][1] if len(takers) == 1 and _augments(takers[0][0]) else None


def _augments(layer):
    if isinstance(layer, keras.Model):
        inner = [each for each in layer.layers if not isinstance(each, keras.layers.InputLayer)]
        return bool(inner) and all(_augments(each) for each in inner)
    return type(layer).__module__.startswith("keras") and type(layer).__name__.startswith(_PREFIXES)

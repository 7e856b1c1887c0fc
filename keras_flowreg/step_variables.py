"""The variables that Keras makes in a model's first step: here before it, since TensorFlow traces a step that makes some twice."""

from typing import Any

import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.types import KerasModel


def make(model: KerasModel, batches: Any, is_training: bool) -> None:
    """Makes the variables of a model's metrics and, in training, of its optimizer. What is not known yet is left to the step.

    Args:
      model: a compiled model, with a `base_model`.
      batches: the iterator that a step is given.
      is_training: whether it is a training step.
    """
    if tf.distribute.has_strategy() or not model.base_model.built:
        return
    if is_training:
        compat.build_optimizer(model.optimizer, model.trainable_variables)
    predictions, batch = compat.symbolic_output(model.base_model), getattr(batches, "element_spec", None)
    if predictions is not None and isinstance(batch, tuple) and len(batch) > 1 and _is_of_known_rank(batch[1]):
        compat.build_metrics(model, batch[1], predictions)


def _is_of_known_rank(labels):
    return isinstance(labels, tf.TensorSpec) and labels.shape.rank is not None

"""Binary classifiers, which give one number, as classifiers of two classes."""

import keras
import numpy as np

from keras_flowreg.ops.losses import compiled_loss, takes_logits
from keras_flowreg.ops.matching import expect_classifier
from keras_flowreg.types import KerasModel


def two_class_classifier(model: KerasModel) -> KerasModel:
    """A binary classifier with a prediction for each of its classes, as attacks, reports and proofs take it.

    A logit z becomes the logits (0, z), and a probability p the probabilities (1 - p, p). So its cross-entropy is the binary
    one. The layers and weights are the model's own; a layer of fixed weights is added.

    ```python
    images = keras.Input((8, 10, 2))
    binary = keras.Model(images, keras.layers.Dense(1)(keras.layers.Flatten()(images)))
    binary.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    classifier = fr.two_class_classifier(binary)
    adversarial_images = fr.attacks.FlowPGD(epsilon=0.4, steps=5)(np.ones([4, 8, 10, 2]), [0, 1, 1, 0], model=classifier)
    ```

    Args:
      model: a functional or Sequential model, compiled with a binary cross-entropy, from images to `[batch, 1]`.

    Returns:
      A `keras.Model` from images to `[batch, 2]`, compiled with the cross-entropy of class indices.

    Raises:
      ValueError: if the model is not compiled with such a loss, or has another output.
    """
    outputs = getattr(expect_classifier("model", model), "outputs", None) or [None]
    if getattr(outputs[0], "shape", (None,))[1:] != (1,):
        raise ValueError(
            "Expected `model` to be Sequential or functional, with predictions of the shape [batch, 1]. "
            f"Received {getattr(outputs[0], 'shape', 'a subclassed model')}."
        )
    loss = compiled_loss(model)
    logits = None if loss is None else takes_logits(loss)
    if logits is None:
        raise ValueError(
            "Expected a model that is compiled with a binary cross-entropy, whose `from_logits` says what it gives. "
            f"Received the loss {getattr(model, 'loss', None)!r}."
        )
    kernel, bias = ([[0.0, 1.0]], [0.0, 0.0]) if logits else ([[-1.0, 1.0]], [1.0, 0.0])
    both = keras.layers.Dense(2, dtype="float32", trainable=False)
    classifier = keras.Model(model.inputs[0], both(outputs[0]))
    both.set_weights([np.array(kernel), np.array(bias)])
    classifier.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=logits))
    return classifier

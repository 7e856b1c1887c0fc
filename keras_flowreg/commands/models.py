"""Loading a classifier, and asking it."""

import os

import keras
import numpy as np
import tensorflow as tf
from absl import flags

import keras_flowreg as fr
from keras_flowreg import model_card
from keras_flowreg.ops.losses import compiled_loss, label_kind, takes_logits
from keras_flowreg.types import Images, KerasModel, ValueRange

flags.disclaim_key_flags()  # They are those of the command that calls.


def define_flags(what: str) -> None:
    """--model, --safe_mode, --value_range."""
    flags.DEFINE_string("model", None, what, required=True)
    flags.DEFINE_bool(
        "safe_mode", True, "whether to refuse a model that may run code; turn it off only for one that you trust"
    )
    flags.DEFINE_list(
        "value_range",
        None,
        "the least and the greatest value of the images that the model takes, such as 0,255; by default what the card of an "
        "export says, and else 0,1",
    )
    flags.register_validator("value_range", _is_range, "Expected two numbers, the least and the greatest: 0,255")


def load() -> KerasModel:
    """The classifier of the flags; see `load_from`."""
    return load_from(flags.FLAGS.model, flags.FLAGS.safe_mode)


def load_from(handle: str, safe_mode: bool) -> KerasModel:
    """A classifier that is compiled with a loss of class indices, as the data sets have them."""
    model = fr.load_classifier(handle, safe_mode=safe_mode)
    loss = compiled_loss(model)
    if loss is not None and label_kind(loss) == "one_hot":
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=takes_logits(loss) is not False))
    return model


def value_range() -> ValueRange:
    """What values the images of the model may have, by the flags or by the model's card."""
    low, high = flags.FLAGS.value_range or _range_of_card(flags.FLAGS.model)
    return float(low), float(high)


def scaled(images: Images, values: ValueRange) -> tf.Tensor:
    """Images from 0 to 1 as a model takes them, from the least to the greatest of its values."""
    low, high = values
    return low + (high - low) * tf.convert_to_tensor(images)


def unscaled(images: Images, values: ValueRange) -> tf.Tensor:
    """A model's images as pictures, from 0 to 1."""
    low, high = values
    return (tf.convert_to_tensor(images) - low) / (high - low)


def predict(model: KerasModel, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Each image's class, and how sure the model is of it."""
    predictions, loss = model(images, training=False), compiled_loss(model)
    gives_probabilities = loss is not None and takes_logits(loss) is False
    probabilities = np.asarray(predictions if gives_probabilities else tf.nn.softmax(predictions))
    return probabilities.argmax(axis=1), probabilities.max(axis=1)


def _range_of_card(model):
    """The range on the card beside an export; else that of the library's own data sets."""
    if not os.path.exists(os.path.join(model, model_card.NAMES[0])):
        return 0.0, 1.0
    return model_card.read(model)["inputs"]["values"]


def _is_range(values):
    try:
        return values is None or len(values) == 2 and -float("inf") < float(values[0]) < float(values[1]) < float("inf")
    except ValueError:
        return False

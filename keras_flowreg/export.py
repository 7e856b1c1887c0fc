"""The plain classifier as a SavedModel for TensorFlow Hub, TensorFlow Serving and TensorFlow Lite, with its card."""

import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any, Optional, Union

import keras
import tensorflow as tf

from keras_flowreg import compat, model_card
from keras_flowreg.evaluation import RobustnessReport
from keras_flowreg.evaluation.journal import digest
from keras_flowreg.models import classifier_of
from keras_flowreg.ops.validation import expect_value_range
from keras_flowreg.types import Images, KerasModel, Predictions, ValueRange

CARD_NAMES = ("model_card.json", "model_card.md")


def export(
    model: KerasModel,
    path: Union[str, os.PathLike],
    *,
    image_shape: Optional[tuple[int, int, int]] = None,
    value_range: ValueRange = (0.0, 1.0),
    uint8_images: bool = False,
    probabilities: bool = False,
    report: Optional[RobustnessReport] = None,
    recipe: Optional[Mapping[str, Any]] = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes a classifier as a reusable SavedModel, without any training code, and its model card beside it.

    These take the SavedModel: `hub.load`, `hub.KerasLayer(path, trainable=True)`, `tf.saved_model.load`,
    `keras.layers.TFSMLayer`, TensorFlow Serving, `tf.lite.TFLiteConverter` and `load_classifier`. It has
    `__call__(images, training=False)`, `variables`, `trainable_variables`, `regularization_losses` and the signature
    `serving_default`, for batches of any size. In its folder are also model_card.json and model_card.md.

    The export is written apart and then moved into its place: a kill leaves what was there before, or nothing.

    Args:
      model: a Keras classifier, from images to logits. Of a `FlowRegularizedModel`, the base model is exported.
      path: the folder to make.
      image_shape: `(height, width, channels)`, for a model that does not know it, such as a subclassed one.
      value_range: the least and the greatest value of the images that the model was trained on.
      uint8_images: whether the export takes integers from 0 to 255, and maps them into `value_range` itself.
      probabilities: whether the export ends in a softmax.
      report: a report of this model, for the card.
      recipe: how the model was trained, for the card: a dictionary of numbers, strings, lists and dictionaries.
        A `FlowRegularizedModel` adds what it knows itself.
      overwrite: whether to replace what is at `path`.

    Returns:
      The card, as a dictionary.

    Raises:
      FileExistsError: if there is something at `path`, and it is not to be replaced.
      TypeError: if `model` is not a Keras model, or `recipe` is not made of plain values.
      ValueError: if the shape of the images is not known, the predictions are not `[batch, classes]`, or the report is
        of other weights.

    ```python
    card = fr.export(model, "classifier", recipe={"epochs": 10}, overwrite=True)
    print(card["inputs"])
    logits = tf.saved_model.load("classifier")(images)
    ```
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected `model` to be a keras.Model. Received {model!r}.")
    path = os.path.abspath(os.fspath(path))
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"Expected a new `path`, or overwrite=True. Received {path}, which exists.")
    classifier, value_range = classifier_of(model), expect_value_range(value_range)
    _expect_report_of(model, classifier, report)
    image_shape = _image_shape(classifier, image_shape)
    card = model_card.describe(
        model,
        inputs={
            "shape": [None, *image_shape],
            "dtype": "uint8" if uint8_images else "float32",
            "values": [0, 255] if uint8_images else list(value_range),
        },
        outputs={
            "kind": "probabilities" if probabilities else "logits",
            "classes": _classes(classifier, image_shape),
        },
        report=report,
        recipe=recipe,
    )
    _write(ReusableClassifier(classifier, image_shape, value_range, uint8_images, probabilities), card, path)
    return card


class ReusableClassifier(tf.train.Checkpoint):
    """A classifier with the interface of TensorFlow Hub's reusable SavedModels.

    Args:
      classifier: a Keras model, from images to logits.
      image_shape: `(height, width, channels)`.
      value_range: the least and the greatest value of the images that the classifier takes.
      uint8_images: whether to take integers from 0 to 255 instead.
      probabilities: whether to end in a softmax.

    Attributes:
      variables: all variables, a list of `tf.Variable`.
      trainable_variables: those that are trained.
      regularization_losses: a function of no arguments for each weight that is regularized.

    ```python
    from keras_flowreg.export import ReusableClassifier

    module = ReusableClassifier(model, (8, 10, 2), (0.0, 1.0), uint8_images=False, probabilities=True)
    probabilities = module(images)
    ```
    """

    def __init__(
        self,
        classifier: KerasModel,
        image_shape: tuple[int, int, int],
        value_range: ValueRange,
        uint8_images: bool,
        probabilities: bool,
    ):
        super().__init__()
        self._predict = _predictor(classifier, value_range, uint8_images, probabilities)
        images = tf.TensorSpec([None, *image_shape], tf.uint8 if uint8_images else tf.float32, name="images")
        for training in (False, True):
            self.__call__.get_concrete_function(images, training=training)
        # What Keras's layers hold, and not the layers, which need their code to be loaded.
        self.variables = compat.tf_variables(classifier.variables)
        self.trainable_variables = compat.tf_variables(classifier.trainable_variables)
        self.regularization_losses = [
            tf.function(loss, input_signature=[]) for loss in compat.weight_losses(classifier)
        ]

    @tf.function(autograph=False)
    def __call__(self, images: Images, training: bool = False) -> Predictions:
        return self._predict(images, training)


def _predictor(classifier, value_range, uint8_images, probabilities):
    """The classifier with what comes before and after it, as a function of images and the mode."""
    low, high = value_range

    def predict(images, training):
        if uint8_images:
            images = low + (high - low) / 255 * tf.cast(images, tf.float32)
        predictions = tf.cast(classifier(images, training=training), tf.float32)
        return tf.nn.softmax(predictions) if probabilities else predictions

    return predict


def _serving_signature(module, inputs, outputs):
    """`serving_default`: images by name, to predictions by name."""
    images = tf.TensorSpec(inputs["shape"], inputs["dtype"], name="images")
    return tf.function(lambda images: {outputs["kind"]: module(images)}).get_concrete_function(images)


def _classes(classifier, image_shape):
    """How many predictions the classifier gives."""
    shape = classifier(tf.zeros([1, *image_shape]), training=False).shape
    if len(shape) != 2:
        raise ValueError(f"Expected predictions of the shape [batch, classes]. Received {shape}.")
    return int(shape[1])


def _image_shape(classifier, image_shape):
    """The shape of an image, if it is given; otherwise the one that the classifier knows."""
    known = tuple(classifier.inputs[0].shape[1:]) if getattr(classifier, "inputs", None) else None
    shape = known if image_shape is None else tuple(image_shape)
    if shape is None or len(shape) != 3:
        raise ValueError(
            "Expected `image_shape` to be (height, width, channels), for a model that does not know the shape of its "
            f"images. Received {image_shape!r}."
        )
    return shape


def _expect_report_of(model, classifier, report):
    """Checks that a report was made of these weights."""
    if report is None:
        return
    digests = {digest(weights.get_weights()) for weights in (model, classifier)}
    if report.settings.get("weights") not in digests:
        raise ValueError(
            f"Expected a report of this model, whose weights have the checksum {sorted(digests)}. "
            f"Received one of {report.settings.get('weights')}."
        )


def _write(module, card, path):
    """Writes everything apart, then moves it to `path`."""
    parent, name = os.path.split(path)
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=parent) as scratch:
        new, old = os.path.join(scratch, "new"), os.path.join(scratch, "old")
        signature = _serving_signature(module, card["inputs"], card["outputs"])
        tf.saved_model.save(module, new, signatures={"serving_default": signature})
        for card_name, text in zip(
            CARD_NAMES, (json.dumps(card, indent=2, allow_nan=False), model_card.to_markdown(card))
        ):
            with open(os.path.join(new, card_name), "w", encoding="utf-8") as file:
                file.write(text)
        if os.path.lexists(path):
            os.rename(path, old)
        os.rename(new, path)

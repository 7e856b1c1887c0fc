"""The plain classifier as a SavedModel for TensorFlow Hub, TensorFlow Serving and TensorFlow Lite, with its card."""

import json
import os
import tempfile

import keras
import tensorflow as tf

from keras_flowreg import compat, model_card
from keras_flowreg.journal import digest
from keras_flowreg.layers import keras_operations
from keras_flowreg.models import classifier_of

CARD_NAMES = ("model_card.json", "model_card.md")


def export(
    model,
    path,
    *,
    image_shape=None,
    value_range=(0.0, 1.0),
    uint8_images=False,
    probabilities=False,
    report=None,
    recipe=None,
    overwrite=False,
):
    """Writes a classifier as a reusable SavedModel, without any training code, and its model card beside it.

    The SavedModel has `__call__(images, training=False)`, `variables`, `trainable_variables`,
    `regularization_losses`, and the signature `serving_default`, all for any size of batch: what `hub.load`,
    `hub.KerasLayer(path, trainable=True)`, `tf.saved_model.load`, `keras.layers.TFSMLayer`, TensorFlow Serving
    and `tf.lite.TFLiteConverter` take. In it are model_card.json and model_card.md.

    It is written apart and then moved into its place: a kill leaves what was there before, or nothing.

    Args:
      model: a Keras classifier, images to logits; of a `FlowRegularizedModel`, the base model is exported.
      path: the folder to make.
      image_shape: `(height, width, channels)`, for a model that does not know it, as a subclassed one.
      value_range: the least and the greatest value of the images that the model was trained on.
      uint8_images: whether the export takes integers from 0 to 255, and maps them into `value_range` itself.
      probabilities: whether the export ends in a softmax.
      report: a `RobustnessReport` of this model, for the card.
      recipe: how the model was trained, for the card: a dictionary of numbers, strings, lists and dictionaries.
        What a `FlowRegularizedModel` knows itself need not be said.
      overwrite: whether to replace what is at `path`.

    Returns:
      The card, as a dictionary.

    Raises:
      FileExistsError: if there is something at `path`, and it is not to be replaced.
      TypeError: if `model` is not a Keras model.
      ValueError: if the shape of its images is not known, its predictions are not `[batch, classes]`, or the
        report is of other weights.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected `model` to be a keras.Model. Received {model!r}.")
    path = os.path.abspath(os.fspath(path))
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"Expected a new `path`, or overwrite=True. Received {path}, which exists.")
    classifier = classifier_of(model)
    _expect_report_of(model, classifier, report)
    image_shape = _image_shape(classifier, image_shape)
    card = model_card.describe(
        model,
        inputs={
            "shape": [None, *image_shape],
            "dtype": "uint8" if uint8_images else "float32",
            "values": [0, 255] if uint8_images else [float(bound) for bound in value_range],
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
      classifier: a Keras model, images to logits.
      image_shape, value_range, uint8_images, probabilities: as `export`.

    Attributes:
      variables, trainable_variables: lists of `tf.Variable`.
      regularization_losses: list of functions of no arguments.
    """

    def __init__(self, classifier, image_shape, value_range, uint8_images, probabilities):
        super().__init__()
        self._predict = _predictor(classifier, value_range, uint8_images, probabilities)
        images = tf.TensorSpec([None, *image_shape], tf.uint8 if uint8_images else tf.float32, name="images")
        with keras_operations():
            for training in (False, True):
                self.__call__.get_concrete_function(images, training=training)
        # What Keras's layers hold, and not the layers, which need their code to be loaded.
        self.variables = compat.tf_variables(classifier.variables)
        self.trainable_variables = compat.tf_variables(classifier.trainable_variables)
        self.regularization_losses = [
            tf.function(loss, input_signature=[]) for loss in compat.weight_losses(classifier)
        ]

    @tf.function(autograph=False)
    def __call__(self, images, training=False):
        return self._predict(images, training)


def _predictor(classifier, value_range, uint8_images, probabilities):
    """The classifier with what comes before and after it, as a function of images and the mode."""
    low, high = (float(bound) for bound in value_range)

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
    """The shape of an image: as given, or as the classifier knows it."""
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
        for card_name, text in zip(CARD_NAMES, (json.dumps(card, indent=2), model_card.to_markdown(card))):
            with open(os.path.join(new, card_name), "w", encoding="utf-8") as file:
                file.write(text)
        if os.path.lexists(path):
            os.rename(path, old)
        os.rename(new, path)

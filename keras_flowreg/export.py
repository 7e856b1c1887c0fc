"""The plain classifier as a SavedModel for TensorFlow Hub, TensorFlow Serving and TensorFlow Lite, with its card."""

import os
from collections.abc import Mapping
from typing import Any, Optional, Union

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg import compat, files, model_card
from keras_flowreg.evaluation import RobustnessReport
from keras_flowreg.evaluation.identity import identify
from keras_flowreg.ops import random
from keras_flowreg.ops.labels import expect_classes, look_like_probabilities
from keras_flowreg.ops.matching import image_shape_of
from keras_flowreg.ops.validation import expect_boolean, expect_instance, expect_positive_integer, expect_value_range
from keras_flowreg.types import Images, KerasModel, Predictions, ValueRange
from keras_flowreg.wrapped import classifier_of

_CONTENTS = {"saved_model.pb", "fingerprint.pb", "variables", "assets", *model_card.NAMES}  # of an export
_SAMPLES = 8  # random images that show what the model gives
_UNKNOWN_SIZE = 32  # pixels of their sides, for a model of images of any size


def export(
    model: KerasModel,
    path: Union[str, os.PathLike],
    *,
    image_shape: Optional[tuple[int, int, int]] = None,
    value_range: Optional[ValueRange] = None,
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

    The export is written apart and then moved into its place: an error or a kill leaves what was there before.

    Args:
      model: a Keras classifier, from images to logits. Of a `FlowRegularizedModel`, the base model is exported.
      path: the folder to make.
      image_shape: `(height, width, channels)`, for a model that does not know it, such as a subclassed one.
      value_range: the least and the greatest value of the images that the model was trained on; `None` for those of the report,
        and without one for 0 and 1.
      uint8_images: whether the export takes integers from 0 to 255, and maps them into `value_range` itself.
      probabilities: whether the export ends in a softmax. Where the model's own outputs are probabilities, it gets no
        second one, and the card says what they are in any case.
      report: a report of this model, for the card.
      recipe: how the model was trained, for the card: a dictionary of numbers, strings, lists and dictionaries.
        A `FlowRegularizedModel` adds what it knows itself.
      overwrite: whether to replace an export that is at `path`.

    Returns:
      The card, as a dictionary.

    Raises:
      FileExistsError: if there is something at `path`, and it is not to be replaced, or is no export.
      OSError: if the folder cannot be written.
      TypeError: if `model` is not a Keras model, or `recipe` is not made of plain values.
      ValueError: if the shape of the images is not known, the predictions are not finite numbers `[batch, classes]` for at
        least two classes, an option is out of its range, or the report is of another model or range.

    ```python
    card = fr.export(model, "classifier", recipe={"epochs": 10}, overwrite=True)
    print(card["inputs"])
    logits = tf.saved_model.load("classifier")(images)
    ```
    """
    expect_instance("model", model, keras.Model)
    path = files.as_path("path", path)
    for name, option in (("uint8_images", uint8_images), ("probabilities", probabilities), ("overwrite", overwrite)):
        expect_boolean(name, option)
    files.expect_writable("path", path, folder=True)
    path = os.path.abspath(path)
    image_shape = expect_exportable(model, path, image_shape, overwrite)
    classifier = classifier_of(model)
    if report is not None:
        _expect_report_of(classifier, expect_instance("report", report, RobustnessReport), image_shape)
    value_range = _value_range(value_range, report)
    sample = _sample_predictions(classifier, image_shape, value_range)
    are_probabilities = look_like_probabilities(sample)
    card = model_card.describe(
        model,
        inputs={
            "shape": [None, *image_shape],
            "dtype": "uint8" if uint8_images else "float32",
            "values": [0, 255] if uint8_images else list(value_range),
        },
        outputs={
            "kind": "probabilities" if probabilities or are_probabilities else "logits",
            "classes": sample.shape[1],
        },
        report=report,
        recipe=recipe,
    )
    needs_softmax = probabilities and not are_probabilities
    _write(ReusableClassifier(classifier, image_shape, value_range, uint8_images, needs_softmax), card, path)
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
      variables: all weights, a list of `tf.Variable`.
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
        modes = [self.__call__.get_concrete_function(images, training=training) for training in (False, True)]
        # The state of what draws at random, such as RandomTranslation, is none of a model's weights.
        self._used_variables = [variable for mode in modes for variable in mode.graph.variables]
        # What Keras's layers hold, and not the layers, which need their code to be loaded.
        self.variables = compat.tf_variables(classifier.weights)
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


def _sample_predictions(classifier, image_shape, value_range):
    """Predictions for a few random images, as an array: finite `[batch, classes]`."""
    size = [_SAMPLES, *(size or _UNKNOWN_SIZE for size in image_shape)]
    images = random.uniform(size, (0, 0), *value_range)
    predictions = classifier(images, training=False)
    if not tf.is_tensor(predictions) or predictions.shape.rank != 2:
        shape = getattr(predictions, "shape", type(predictions).__name__)
        raise ValueError(f"Expected predictions of the shape [batch, classes]. Received {shape}.")
    expect_classes(predictions)
    if not np.isfinite(predictions).all():
        raise ValueError("Expected finite predictions. Received NaN or infinity: are the model's weights finite?")
    return tf.cast(predictions, tf.float32).numpy()


def expect_exportable(
    model: KerasModel,
    path: Union[str, os.PathLike],
    image_shape: Optional[tuple[int, int, int]] = None,
    overwrite: bool = False,
) -> tuple[int, int, int]:
    """Checks, before long work, that `export` can write a model there; see it for the arguments and errors.

    Returns:
      The shape of an image: the one that is given, or else that which the classifier knows. (A side of any length is `None`.)
    """
    _expect_free(path, overwrite)
    return _image_shape(classifier_of(model), image_shape)


def _image_shape(classifier, image_shape):
    """The shape of an image, if it is given; otherwise the one that the classifier knows."""
    known = image_shape_of(classifier)
    if image_shape is None and known.rank is not None:
        image_shape = tuple(known)
    if not isinstance(image_shape, (tuple, list)) or len(image_shape) != 3:
        raise ValueError(
            "Expected `image_shape` to be (height, width, channels), for a model that does not know the shape of its "
            f"images. Received {image_shape!r}."
        )
    shape = tuple(size if size is None else expect_positive_integer("image_shape", size) for size in image_shape)
    if not known.is_compatible_with(shape):
        raise ValueError(f"Expected `image_shape` to be that of the model's images, {known}. Received {image_shape!r}.")
    return shape


def _expect_free(path, overwrite):
    """Checks that there is nothing at a path, or an export that is to be replaced."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise FileExistsError(f"Expected a new `path`, or overwrite=True. Received {path}, which exists.")
    contents = set(os.listdir(path)) if os.path.isdir(path) and not os.path.islink(path) else set()
    if not _CONTENTS >= contents >= {"saved_model.pb", *model_card.NAMES}:
        raise FileExistsError(f"Expected `path` to hold an export, to be replaced. Received {path}, which is another.")


def _expect_report_of(classifier, report, image_shape):
    """Checks that a report was made of this classifier, by its weights and by what it computes."""
    own = identify(classifier, tuple(size or _UNKNOWN_SIZE for size in image_shape))
    reported = {name: report.settings.get(name) for name in own}
    if reported != own:
        raise ValueError(f"Expected a report of this model, which has the checksums {own}. Received one of {reported}.")


def _value_range(given, report):
    """The values of the images: what is given, and what the report was measured on."""
    reported = None if report is None else report.settings.get("value_range")
    if given is None:
        given = reported or (0.0, 1.0)
    given = expect_value_range(tuple(given))
    if reported is not None and tuple(reported) != given:
        raise ValueError(f"Expected `value_range` to be that of the report, {tuple(reported)}. Received {given}.")
    return given


def _write(module, card, path):
    """Writes everything apart, then moves it to `path`."""
    with files.replacing(path) as new:
        signature = _serving_signature(module, card["inputs"], card["outputs"])
        tf.saved_model.save(module, new, signatures={"serving_default": signature})
        model_card.write(card, new)

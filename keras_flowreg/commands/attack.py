r"""Attacks images with a saved classifier, and draws what happens to them.

    keras-flowreg attack --model=digits.keras --dataset=digits --epsilon=0.4 --picture=gallery.png
    keras-flowreg attack --model=digits.keras --image=seven.png --label=7

One row an image: the original, the flow as arrows, how far each pixel moves, the deformed image, and their difference,
with the labels and how sure the model is of them. With --dataset, the first images that the model gets right.
"""

from typing import Optional

import numpy as np
import tensorflow as tf
from absl import flags

import keras_flowreg as fr
from keras_flowreg.commands import datasets, images, models, outputs
from keras_flowreg.commands.command_line import Result
from keras_flowreg.commands.flags import attack_names, build_attack, define_dataset_flags, define_search_flags
from keras_flowreg.ops.matching import image_shape_of
from keras_flowreg.types import KerasModel, ValueRange

# Images, their labels, and the names of the classes where they are known.
_Examples = tuple[tf.Tensor, np.ndarray, Optional[tuple[str, ...]]]


def define_flags() -> None:
    """Those of a model, a data set and an attack; which images, and where the picture goes."""
    define_dataset_flags()
    define_search_flags()
    models.define_flags("a saved classifier")
    flags.DEFINE_float("epsilon", 0.4, "radius of the flows, in pixels", lower_bound=0)
    flags.DEFINE_enum("attack", "FlowFrankWolfe", attack_names(), "which attack")
    flags.DEFINE_string("image", None, "a picture, grey or in colours, instead of a data set")
    flags.DEFINE_integer("label", None, "the class of --image; the model's own answer by default", lower_bound=0)
    flags.DEFINE_integer("rows", 4, "images to draw", lower_bound=1)
    flags.DEFINE_string("picture", "gallery.png", "where to write the picture")


def main() -> Result:
    """Attacks the images of the flags."""
    args = flags.FLAGS
    outputs.expect_picture_path(args.picture, "picture")
    if args.label is not None and not args.image:
        raise ValueError("Expected `--label` with the `--image` that it is of. Received none.")
    model, values = models.load(), models.value_range()
    originals, labels, class_names = _read_image(model, values) if args.image else _read_dataset(model, values)
    if not len(labels):
        raise ValueError("Expected a model that gets some of the first images right. Received one that does not.")
    result = build_attack(args.attack, args.epsilon, values).run(originals, labels, model=model)
    before, after = models.predict(model, originals), models.predict(model, result.images)
    captions = [(_caption(before, row, class_names), _caption(after, row, class_names)) for row in range(len(labels))]
    pictures, attacked = (models.unscaled(each, values).numpy() for each in (originals, result.images))
    figure = fr.pictures.draw_gallery(pictures, result.flow.numpy(), attacked, captions)
    outputs.save_picture(figure, args.picture)
    fooled = int(np.sum(result.success))
    text = f"{args.attack} fooled the model on {fooled} of {len(labels)} images. The picture is in {args.picture}"
    return Result(text, {**_values(labels, before, after, result.success), "picture": args.picture})


def _read_image(model: KerasModel, values: ValueRange) -> _Examples:
    """The image of --image with its label, as a batch of one, and no names of classes."""
    args = flags.FLAGS
    shape = image_shape_of(model).with_rank(3)
    originals = models.scaled(images.read(args.image, tuple(shape))[np.newaxis], values)
    labels = models.predict(model, originals)[0] if args.label is None else np.array([args.label])
    return originals, labels, None


def _read_dataset(model: KerasModel, values: ValueRange) -> _Examples:
    """The first images of the test split that the model gets right."""
    args = flags.FLAGS
    dataset = datasets.load(args.dataset, batch_size=args.batch_size, data_dir=args.data_dir)
    found: list[tuple[tf.Tensor, tf.Tensor]] = []
    for pictures, labels in dataset.test:
        originals = models.scaled(pictures, values)
        right = models.predict(model, originals)[0] == labels.numpy()
        found.append((originals[right], labels[right]))
        if sum(len(each) for _, each in found) >= args.rows:
            break
    originals, labels = (tf.concat(each, axis=0)[: args.rows] for each in zip(*found))
    return originals, labels.numpy(), dataset.class_names


def _caption(answers, row, class_names):
    """What the model says of an image."""
    label, confidence = answers[0][row], answers[1][row]
    return f"{class_names[label] if class_names else label} ({confidence:.0%})"


def _values(labels, before, after, success):
    """One number an image."""
    return {
        "labels": labels,
        "answers_before": before[0],
        "confidences_before": before[1],
        "answers_after": after[0],
        "confidences_after": after[1],
        "success": np.asarray(success),
    }

r"""Attacks images with a saved classifier, and draws what happens to them.

    python examples/attack.py --model=digits.keras --dataset=digits --epsilon=0.4 --picture=gallery.png
    python examples/attack.py --model=digits.keras --image=seven.png --label=7

One row an image: the original, the flow as arrows, how far each pixel moves, the deformed image, and their difference,
with the labels and how sure the model is of them. With --dataset, the first images that the model gets right.
"""

import numpy as np
import tensorflow as tf
from absl import flags

import keras_flowreg as fr
from flowreg_examples import command_line, datasets, models, outputs
from flowreg_examples import images as pictures
from flowreg_examples.flags import attack_names, build_attack, define_dataset_flags, define_search_flags

define_dataset_flags()
define_search_flags()
models.define_flags("a saved classifier with logits")
_EPSILON = flags.DEFINE_float("epsilon", 0.4, "radius of the flows, in pixels", lower_bound=0)
_ATTACK = flags.DEFINE_enum("attack", "FlowFrankWolfe", attack_names(), "which attack")
_IMAGE = flags.DEFINE_string("image", None, "a picture, grey or in colours, instead of a data set")
_LABEL = flags.DEFINE_integer("label", None, "the class of --image; the model's own answer by default", lower_bound=0)
_ROWS = flags.DEFINE_integer("rows", 4, "images to draw", lower_bound=1)
_PICTURE = flags.DEFINE_string("picture", "gallery.png", "where to write the picture")


def read_image(model):
    """The image of --image with its label, as a batch of one, and no names of classes."""
    inputs = getattr(getattr(model, "base_model", model), "inputs", None)
    images = tf.constant(pictures.read(_IMAGE.value, inputs[0].shape[1:] if inputs else (None, None, None)))[tf.newaxis]
    labels = models.predict(model, images)[0] if _LABEL.value is None else np.array([_LABEL.value])
    return images, labels, None


def read_dataset(model):
    """The first images of the test split that the model gets right."""
    args = flags.FLAGS
    dataset = datasets.load(args.dataset, batch_size=256, data_dir=args.data_dir)
    images, labels = next(iter(dataset.test))
    right = np.flatnonzero(models.predict(model, images)[0] == labels.numpy())[: _ROWS.value]
    return tf.gather(images, right), tf.gather(labels, right).numpy(), dataset.class_names


def caption(answers, row, class_names):
    """What the model says of an image."""
    label, confidence = answers[0][row], answers[1][row]
    return f"{class_names[label] if class_names else label} ({confidence:.0%})"


def main(_):
    outputs.expect_picture_path(_PICTURE.value, "picture")
    model = models.load()
    images, labels, class_names = read_image(model) if _IMAGE.value else read_dataset(model)
    if not len(labels):
        raise ValueError("Expected a model that gets some of the first images right. Received one that does not.")
    result = build_attack(_ATTACK.value, _EPSILON.value).run(images, labels, model=model)
    before, after = models.predict(model, images), models.predict(model, result.images)
    captions = [(caption(before, row, class_names), caption(after, row, class_names)) for row in range(len(labels))]
    figure = fr.pictures.draw_gallery(images.numpy(), result.flow.numpy(), result.images.numpy(), captions)
    outputs.save_picture(figure, _PICTURE.value)
    fooled = int(np.sum(result.success))
    print(f"{_ATTACK.value} fooled the model on {fooled} of {len(labels)} images. The picture is in {_PICTURE.value}")


if __name__ == "__main__":
    command_line.run(main)

r"""Draws what every attack does to one image of a data set: one attack a row.

    keras-flowreg train --dataset=digits --method=plain --output=digits.keras
    python examples/gallery.py --model=digits.keras --dataset=digits --picture=docs/figures/gallery-digits.png

They take the first image of the test split that the model gets right, and that FlowFrankWolfe fools it on.
"""

import numpy as np
import tensorflow as tf
from absl import flags

import keras_flowreg as fr
from keras_flowreg.commands import command_line, datasets, models, outputs
from keras_flowreg.commands.command_line import Result
from keras_flowreg.commands.flags import build_attack, define_dataset_flags, define_search_flags

_CANDIDATES = 64  # images among which one that is fooled is looked for
# The others look like these.
_ATTACKS = ("FlowFGSM", "FlowPGD", "FlowFrankWolfe", "FlowSPSA", "FlowSquare", "StAdv", "ADef", "RotationTranslation")


def define_flags():
    """Those of a model, a data set and attacks; how far, and where the picture goes."""
    define_dataset_flags()
    define_search_flags()
    models.define_flags("a saved classifier with logits")
    flags.DEFINE_multi_enum("attacks", _ATTACKS, _ATTACKS, "which attacks; may be given several times")
    flags.DEFINE_float("epsilon", 0.4, "radius of the flows, in pixels", lower_bound=0)
    flags.DEFINE_string("picture", "gallery.png", "where to write the picture")


def build(name):
    """An attack; a rotation by little, whose displacements do not hide the others' in the scale of the colours."""
    attack = build_attack(name, flags.FLAGS.epsilon, models.value_range())
    return attack.replace(max_angle=10.0, max_shift=1.0) if name == "RotationTranslation" else attack


def pick(model, dataset, attack):
    """The first image that the model gets right and the attack fools it on, as a batch of one, with its label."""
    pictures, labels = next(iter(dataset.test.unbatch().batch(_CANDIDATES)))
    images = models.scaled(pictures, models.value_range())
    result = attack.run(images, labels, model=model)
    found = np.flatnonzero(result.success & ~result.clean_success)[:1]
    if not len(found):
        raise ValueError("Expected an image on which the model is fooled. Received none: take a larger --epsilon.")
    return tf.gather(images, found), tf.gather(labels, found)


def main():
    args = flags.FLAGS
    outputs.expect_picture_path(args.picture, "picture")
    model = models.load()
    dataset = datasets.load(args.dataset, batch_size=args.batch_size, data_dir=args.data_dir)
    images, labels = pick(model, dataset, build("FlowFrankWolfe"))
    results = {name: build(name).run(images, labels, model=model) for name in args.attacks}
    captions = [
        (name, f"{dataset.class_names[label]} ({confidence:.0%})")
        for name, result in results.items()
        for label, confidence in zip(*models.predict(model, result.images))
    ]
    flows, deformed = (
        tf.concat([getattr(r, part) for r in results.values()], 0).numpy() for part in ("flow", "images")
    )
    pictures, deformed = (models.unscaled(each, models.value_range()).numpy() for each in (images, deformed))
    figure = fr.pictures.draw_gallery(np.repeat(pictures, len(results), axis=0), flows, deformed, captions)
    outputs.save_picture(figure, args.picture, dpi=60)
    fooled = {name: bool(result.success.numpy()[0]) for name, result in results.items()}
    return Result(f"The picture is in {args.picture}", {"picture": args.picture, "success": fooled})


if __name__ == "__main__":
    command_line.run(main, define_flags)

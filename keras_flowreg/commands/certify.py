r"""Proves of how many images no flow of a radius can fool a saved classifier.

    keras-flowreg certify --model=digits.keras --dataset=digits --epsilons=0.05,0.1 --examples=100

What is certified is fooled by no attack; what is not may still be robust. keras-flowreg evaluate --certify puts it beside
attacks.
"""

import keras
from absl import flags

import keras_flowreg as fr
from keras_flowreg.batches import Batches
from keras_flowreg.certification import METHODS
from keras_flowreg.certification.certify import Certification
from keras_flowreg.commands import datasets, models
from keras_flowreg.commands.command_line import Result
from keras_flowreg.commands.flags import define_dataset_flags, define_radius_flags, epsilons


def define_flags() -> None:
    """Those of a model, a data set and radii; how it is proven."""
    define_dataset_flags()
    define_radius_flags("images to certify")
    models.define_flags("a .keras or .h5 file of a Sequential or functional classifier")
    flags.DEFINE_enum("method", "auto", ["auto", *METHODS], "how bounds are found; auto tries the cheapest first")
    flags.DEFINE_enum("norm", "linf", fr.balls.PER_PIXEL_NORMS, "the norm of a flow")
    flags.DEFINE_float("budget", None, "seconds for the slowest bounds of a batch and radius", lower_bound=1e-3)


def main() -> Result:
    """Certifies the model of the flags."""
    args = flags.FLAGS
    model, values = models.load(), models.value_range()
    dataset = datasets.load(args.dataset, batch_size=args.batch_size, data_dir=args.data_dir)
    batches = list(Batches(dataset.test, "dataset", examples=args.examples))
    radii = sorted(set(epsilons()))
    for epsilon in radii:  # Errors come before any work.
        fr.certification.reach_box(models.scaled(batches[0][0][:1], values), epsilon, args.norm)
    certification = Certification(model)
    bar = keras.utils.Progbar(len(radii) * len(batches), unit_name="batch")
    rows = []
    for epsilon in radii:
        certified, seconds = [], 0.0
        for images, labels in batches:
            options = {"method": args.method, "norm": args.norm, "budget": args.budget}
            certificate = certification(models.scaled(images, values), labels, epsilon, **options)
            certified += certificate.certified.numpy().tolist()
            seconds += certificate.seconds
            bar.add(1)
        rows.append({"epsilon": epsilon, "certified": sum(certified), "examples": len(certified), "seconds": seconds})
    return Result(_table(rows), {"method": args.method, "norm": args.norm, "radii": rows})


def _table(rows):
    lines = ["", "| ε (px) | certified accuracy | examples | seconds |", "| ---: | ---: | ---: | ---: |"]
    for row in rows:
        part = row["certified"] / row["examples"]
        lines.append(f"| {row['epsilon']:g} | {part:.3f} | {row['examples']} | {row['seconds']:.1f} |")
    return "\n".join(lines)

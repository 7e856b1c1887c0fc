r"""Draws the figures of the documentation.

scripts/demo --models=models
python examples/figures.py --models=models --output=docs/figures
"""

import os

import matplotlib.cbook
import numpy as np
import PIL.Image
from absl import flags
from matplotlib import pyplot

import keras_flowreg as fr
from keras_flowreg.commands import command_line, datasets, outputs
from keras_flowreg.commands.command_line import Result

_MODELS = ("plain", "flow_gradient")
_RADII = (0.05, 0.1, 0.2, 0.3, 0.4)


def define_flags():
    """Where the demo's models are, how many images to attack, and where the figures go."""
    flags.DEFINE_string("models", None, "the folder of the demo's models", required=True)
    flags.DEFINE_string("output", None, "the folder of the figures", required=True)
    flags.DEFINE_integer("examples", 300, "images to attack, from the first", lower_bound=1)


def draw_epsilon():
    """One radius a column, at three sizes of images."""
    radii, sizes = (0.0, 0.2, 0.5, 1.0, 2.0), (28, 32, 224)
    figure = pyplot.figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(len(sizes), len(radii))
    for row, size in zip(panels, sizes):
        image = first_digit() if size == 28 else photograph(size)
        for axes, epsilon in zip(row, radii):
            flow = fr.balls.get("linf", epsilon).sample([1, size, size, 2], seed=[0, 0])
            title = f"{size} px, ε = {epsilon:g} px ({epsilon / size:.1%})" if epsilon else f"{size} px"
            fr.pictures.draw_image(axes, fr.ops.dense_image_warp(image, flow)[0].numpy(), title)
    return figure


def first_digit():
    return next(iter(datasets.load("digits", batch_size=1).test))[0]


def photograph(size):
    """Grace Hopper's portrait, which Matplotlib ships, as a batch of one."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = PIL.Image.open(file).convert("RGB").crop((56, 10, 456, 410)).resize((size, size))
    return np.asarray(portrait, "float32")[np.newaxis] / 255


def draw_kink():
    """What one pixel becomes as it moves, and the slopes at zero."""
    values, pixel = np.array([0.3, 0.9, 0.6, 0.1, 0.5], "float32"), 2
    image = np.tile(values.reshape(1, 1, -1, 1), [1, 2, 1, 1])  # two rows alike
    figure = pyplot.figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    distances = np.linspace(-1.5, 1.5, 301, dtype="float32")
    images = np.repeat(image, len(distances), axis=0)
    flow = np.zeros((len(distances), 2, len(values), 2), "float32")
    flow[..., 1] = distances.reshape(-1, 1, 1)
    warped = fr.ops.dense_image_warp(images, flow)
    axes.plot(distances, warped[:, 0, pixel, 0], color="black", label="value of the pixel")
    near = np.array([-0.5, 0.5])
    for rule, style in (("forward", "--"), ("backward", "-."), ("central", ":")):
        slope = -float(fr.ops.image_gradients(image, rule)[0, 0, pixel, 0, 1])
        axes.plot(near, values[pixel] + slope * near, style, label=f'lattice="{rule}"')
    axes.set(xlabel="dx: displacement (pixels)", ylabel="value", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def draw_attacks(models, dataset):
    """Accuracy under weaker and stronger attacks."""
    attacks = [fr.attacks.FlowFGSM(0.4), fr.attacks.FlowPGD(0.4), fr.attacks.FlowFrankWolfe(0.4)]
    figure = pyplot.figure(figsize=(10, 4), layout="constrained")
    for axes, (name, model) in zip(figure.subplots(1, len(models)), models.items()):
        report = fr.evaluate_robustness(
            model, dataset.test, attacks, _RADII, examples=flags.FLAGS.examples, check=False, verbose=0
        )
        report.plot(axes).set_title(name)
    return figure


def draw_bounds(models, dataset):
    """What the gradients promise of the loss, and what an attack finds."""
    images, labels = next(iter(dataset.test.unbatch().batch(flags.FLAGS.examples)))
    figure = pyplot.figure(figsize=(10, 4), layout="constrained")
    for axes, (name, model) in zip(figure.subplots(1, len(models), sharey=True), models.items()):
        bounds = [fr.first_order_bounds(model, images, labels, epsilon) for epsilon in _RADII]
        curves = {
            "by the input gradient": [np.median(bound.input) for bound in bounds],
            "by the flow gradient": [np.median(bound.flow) for bound in bounds],
            "found by FlowFrankWolfe": [median_rise(model, images, labels, epsilon) for epsilon in _RADII],
        }
        for label, rises in curves.items():
            axes.semilogy(_RADII, rises, marker="o", label=label)
        axes.set(title=name, xlabel="ε (pixels)", ylabel="median rise of the loss")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def median_rise(model, images, labels, epsilon):
    """By how much an attack raises the loss."""
    result = fr.attacks.FlowFrankWolfe(epsilon).run(images, labels, model=model, stop_when_fooled=False)
    return np.median(result.loss - result.clean_loss)


def main():
    args = flags.FLAGS
    paths = [os.path.join(args.output, f"{name}.png") for name in ("epsilon", "kink", "attacks", "bounds")]
    for path in paths:
        outputs.expect_picture_path(path, "output")
    models = {name: fr.load_classifier(os.path.join(args.models, f"{name}.keras")) for name in _MODELS}
    dataset = datasets.load("digits", batch_size=100)
    figures = [draw_epsilon(), draw_kink(), draw_attacks(models, dataset), draw_bounds(models, dataset)]
    for figure, path in zip(figures, paths):
        outputs.save_picture(figure, path, dpi=72)
    return Result(f"The figures are in {args.output}", {"figures": paths})


if __name__ == "__main__":
    command_line.run(main, define_flags)

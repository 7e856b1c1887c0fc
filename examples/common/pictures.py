"""Pictures of robustness and of adversarial flows."""

import matplotlib.pyplot as plt
import numpy as np


def plot_robustness(axes, accuracies_by_model):
    """Draws accuracy against ε for each model.

    Args:
      axes: Matplotlib axes.
      accuracies_by_model: `{name: {ε in pixels: accuracy}}`.
    """
    for (name, accuracies), marker in zip(accuracies_by_model.items(), "os^Dv"):
        axes.plot(list(accuracies), list(accuracies.values()), marker=marker, label=name)
    axes.set(xlabel="ε: largest displacement (pixels)", ylabel="accuracy under attack", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()


def draw_flow(axes, image, flow, title):
    """Draws an image with an arrow at each visible pixel, from where it is taken to where it goes.

    Args:
      axes: Matplotlib axes.
      image: `[height, width, channels]` in [0, 1].
      flow: `[height, width, 2]`, `(dy, dx)` in pixels; the arrows have this length on the image.
      title: above the picture.
    """
    rows, columns = np.indices(flow.shape[:2])
    moving = _moves_the_picture(image)
    dy, dx = flow[moving].T
    # A flow points from the pixel that is sampled to the pixel that receives it.
    draw_image(axes, image, title)
    axes.quiver(
        columns[moving] - dx,
        rows[moving] - dy,
        dx,
        dy,
        color="tab:red",
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.008,
        headwidth=5,
        headlength=5,
        headaxislength=4.5,
    )


def draw_image(axes, image, title):
    """Draws a grey or colour image without axes."""
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def figure_grid(rows, columns):
    """A figure with one wide panel on the left and `rows` x `columns` small ones on the right."""
    figure = plt.figure(figsize=(6 + 2.2 * columns, 2.3 * rows), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[6, 2.2 * columns])
    return figure, left.subplots(), right.subplots(rows, columns)


def _moves_the_picture(image):
    """Where an image is not flat: elsewhere a displacement changes nothing."""
    grey = image.mean(axis=-1)
    return np.hypot(*np.gradient(grey)) > 0.02

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


def draw_flow(axes, image, flow, title, magnify=2):
    """Draws a dimmed image with an arrow at each pixel that is moved visibly.

    Args:
      axes: Matplotlib axes.
      image: `[height, width, channels]` in [0, 1].
      flow: `[height, width, 2]`, `(dy, dx)` in pixels.
      title: above the picture.
      magnify: how many times longer than the displacement an arrow is.
    """
    rows, columns = np.indices(flow.shape[:2])
    moved = _is_not_flat(image)
    dy, dx = flow[moved].T
    draw_image(axes, 0.45 * image, f"{title} (arrows x{magnify:g})")
    arrows = {"scale": 1 / magnify, "width": 0.009, "headwidth": 3.5, "headlength": 3.5, "headaxislength": 3}
    # An arrow ends at the pixel that receives what lies at its beginning.
    axes.quiver(columns[moved], rows[moved], dx, dy, pivot="tip", angles="xy", scale_units="xy", color="orange", **arrows)


def draw_image(axes, image, title):
    """Draws a grey or colour image without axes."""
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def figure_grid(rows, columns):
    """A figure with one wide panel on the left and `rows` x `columns` small ones on the right."""
    figure = plt.figure(figsize=(6 + 2.8 * columns, 2.9 * rows), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[6, 2.8 * columns])
    return figure, left.subplots(), right.subplots(rows, columns)


def _is_not_flat(image):
    """Where neighbouring pixels differ: elsewhere a displacement changes nothing."""
    return np.hypot(*np.gradient(image.mean(axis=-1))) > 0.1

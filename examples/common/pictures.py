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
    axes.quiver(
        columns[moved], rows[moved], dx, dy, pivot="tip", angles="xy", scale_units="xy", color="orange", **arrows
    )


def draw_image(axes, image, title):
    """Draws a grey or colour image without axes."""
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def draw_gallery(images, flows, deformed, captions):
    """Draws one row an image: original, arrows, displacement, deformed, difference.

    Args:
      images, deformed: `[rows, height, width, channels]` in [0, 1].
      flows: `[rows, height, width, 2]`, in pixels.
      captions: of each row, (the original's, the deformed image's).

    Returns:
      The figure.
    """
    figure, panels = plt.subplots(len(images), 5, figsize=(13, 2.7 * len(images)), layout="constrained", squeeze=False)
    longest = max(np.hypot(flows[..., 0], flows[..., 1]).max(), 1e-6)
    for row, image, flow, moved, (before, after) in zip(panels, images, flows, deformed, captions):
        draw_image(row[0], image, before)
        draw_flow(row[1], image, flow, "flow")
        heat = row[2].imshow(np.hypot(flow[..., 0], flow[..., 1]), cmap="viridis", vmin=0, vmax=longest)
        row[2].set_title("displacement (pixels)", fontsize=9)
        row[2].axis("off")
        figure.colorbar(heat, ax=row[2], shrink=0.8)
        draw_image(row[3], moved, after)
        difference = (moved - image).mean(axis=-1)
        change = row[4].imshow(difference, cmap="RdBu_r", vmin=-1, vmax=1)
        row[4].set_title("difference", fontsize=9)
        row[4].axis("off")
        figure.colorbar(change, ax=row[4], shrink=0.8)
    return figure


def figure_grid(rows, columns):
    """A figure with one wide panel on the left and `rows` x `columns` small ones on the right."""
    figure = plt.figure(figsize=(6 + 2.8 * columns, 2.9 * rows), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[6, 2.8 * columns])
    return figure, left.subplots(), right.subplots(rows, columns)


def _is_not_flat(image):
    """Where neighbouring pixels differ: elsewhere a displacement changes nothing."""
    return np.hypot(*np.gradient(image.mean(axis=-1))) > 0.1

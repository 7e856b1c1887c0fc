"""Pictures of robustness and of flows, with Matplotlib: `pip install matplotlib`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from keras_flowreg.ops.validation import expect_value_range
from keras_flowreg.types import ValueRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "os^DvPX<>"
# Between neighbouring pixels of an image from 0 to 1: below it, a displacement is not seen.
_VISIBLE_DIFFERENCE = 0.1


def plot_accuracy(
    axes: Optional["Axes"],
    curves: Mapping[str, Mapping[Optional[float], Union[float, tuple[float, float, float]]]],
    *,
    styles: Optional[Mapping[str, Mapping[str, Any]]] = None,
    ylabel: str = "accuracy under attack",
) -> "Axes":
    """Plots accuracy against ε, one curve a name.

    Args:
      axes: Matplotlib axes; `None` for those of a new figure.
      curves: `{label: {ε: accuracy}}`, with ε in pixels, and 0 for the clean accuracy. An accuracy is a number, or
        `(value, low, high)`, such as `evaluation.Accuracy`: its interval is drawn as a band. `{label: {None:
        accuracy}}` is an attack without a radius: a dotted line from side to side.
      styles: `{label: {option of axes.plot: value}}`, for curves that should not have the default look.
      ylabel: the label of the vertical axis.

    Returns:
      The axes.

    Raises:
      ImportError: if a new figure is asked for, and Matplotlib is not installed.

    ```python
    curves = {"plain": {0.0: 0.97, 0.4: 0.2}, "regularized": {0.0: 0.96, 0.4: 0.5}}
    axes = fr.pictures.plot_accuracy(None, curves, styles={"plain": {"color": "black"}})
    axes.set_title("digits")
    ```
    """
    axes = _pyplot().figure(figsize=(6, 4), layout="constrained").subplots() if axes is None else axes
    for number, (label, accuracies) in enumerate(curves.items()):
        own_look = {"color": f"C{number}", "marker": _MARKERS[number % len(_MARKERS)]}
        style = {"label": label, **own_look, **(styles or {}).get(label, {})}
        by_radius = {epsilon: np.broadcast_to(part, 3) for epsilon, part in accuracies.items()}
        if None in by_radius:
            value, low, high = by_radius[None]
            line = axes.axhline(value, **{"linestyle": ":", **style, "marker": ""})
            axes.axhspan(low, high, color=line.get_color(), alpha=0.12, linewidth=0)
        else:
            values, low, high = zip(*by_radius.values())
            (line,) = axes.plot(list(by_radius), values, **style)
            axes.fill_between(list(by_radius), low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set(xlabel="ε: largest displacement (pixels)", ylabel=ylabel, ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return axes


def draw_image(axes: "Axes", image: np.ndarray, title: str = "", *, value_range: ValueRange = (0.0, 1.0)) -> None:
    """Draws a grey or colour image.

    Args:
      axes: Matplotlib axes.
      image: `[height, width, channels]`, of one channel or three. The mean of any other number is drawn.
      title: the text above it.
      value_range: the least and the greatest value of an image.

    ```python
    from matplotlib import pyplot

    fr.pictures.draw_image(pyplot.figure().subplots(), images[0], "original")
    ```
    """
    image = _to_unit_range(image, value_range)
    if image.shape[-1] not in (1, 3):
        image = image.mean(axis=-1, keepdims=True)
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
    _add_title(axes, title)


def draw_flow(
    axes: "Axes",
    image: np.ndarray,
    flow: np.ndarray,
    title: str = "",
    *,
    magnify: float = 2.0,
    value_range: ValueRange = (0.0, 1.0),
) -> None:
    """Draws a flow as arrows over its image, which is dimmed.

    An arrow ends at the pixel that receives what lies at its beginning. There are none where the image is flat,
    and a displacement changes nothing.

    Args:
      axes: Matplotlib axes.
      image: `[height, width, channels]`.
      flow: `[height, width, 2]`, `(dy, dx)` in pixels.
      title: the text above it.
      magnify: how many times longer than the displacement an arrow is.
      value_range: the least and the greatest value of an image.

    ```python
    from matplotlib import pyplot

    result = fr.attacks.FlowPGD(epsilon=0.4, steps=5).run(images, labels, model=model)
    fr.pictures.draw_flow(pyplot.figure().subplots(), images[0], result.flow[0], "flow")
    ```
    """
    image, flow = _to_unit_range(image, value_range), np.asarray(flow)
    rows, columns = np.indices(flow.shape[:2])
    moved = _is_not_flat(image)
    dy, dx = flow[moved].T
    arrows = {"scale": 1 / magnify, "width": 0.009, "headwidth": 3.5, "headlength": 3.5, "headaxislength": 3}
    draw_image(axes, 0.45 * image, f"{title} (arrows x{magnify:g})".strip())
    axes.quiver(
        columns[moved], rows[moved], dx, dy, pivot="tip", angles="xy", scale_units="xy", color="orange", **arrows
    )


def draw_gallery(
    images: np.ndarray,
    flows: np.ndarray,
    deformed: np.ndarray,
    captions: Sequence[tuple[str, str]],
    *,
    value_range: ValueRange = (0.0, 1.0),
) -> "Figure":
    """Draws what an attack did to each of a few images, one image a row.

    A row shows the original, the flow as arrows, the length of each displacement, the deformed image and the
    difference that the flow made.

    Args:
      images: `[rows, height, width, channels]`.
      flows: `[rows, height, width, 2]`, `(dy, dx)` in pixels.
      deformed: the deformed images, of the shape of `images`.
      captions: for each row, the texts above the original and above the deformed image.
      value_range: the least and the greatest value of an image.

    Returns:
      A Matplotlib figure.

    Raises:
      ImportError: if Matplotlib is not installed.
      ValueError: if there are not as many of each.

    ```python
    result = fr.attacks.FlowPGD(epsilon=0.4, steps=5).run(images[:2], labels[:2], model=model)
    captions = [("original", "deformed")] * 2
    figure = fr.pictures.draw_gallery(images[:2], result.flow, result.images, captions)
    figure.savefig("gallery.png")
    ```
    """
    images, deformed = _to_unit_range(images, value_range), _to_unit_range(deformed, value_range)
    sizes = [len(part) for part in (images, flows, deformed, captions)]
    if len(set(sizes)) != 1:
        raise ValueError(f"Expected as many images, flows, deformed images and captions. Received {sizes}.")
    lengths = np.linalg.norm(flows, axis=-1)
    figure = _pyplot().figure(figsize=(13, 2.7 * len(images)), layout="constrained")
    panels = figure.subplots(len(images), 5, squeeze=False)
    for row, image, flow, length, moved, (before, after) in zip(panels, images, flows, lengths, deformed, captions):
        draw_image(row[0], image, before)
        draw_flow(row[1], image, flow, "flow")
        _draw_map(row[2], length, "displacement (pixels)", cmap="viridis", vmin=0, vmax=max(lengths.max(), 1e-6))
        draw_image(row[3], moved, after)
        _draw_map(row[4], (moved - image).mean(axis=-1), "difference", cmap="RdBu_r", vmin=-1, vmax=1)
    return figure


def rendered(figure: "Figure", dots_per_inch: int = 60) -> np.ndarray:
    """A figure as an image, such as TensorBoard takes. The figure is closed.

    ```python
    axes = fr.pictures.plot_accuracy(None, {"plain": {0.0: 0.97, 0.4: 0.2}})
    print(fr.pictures.rendered(axes.figure).shape)  # (240, 360, 3)
    ```

    Args:
      figure: a Matplotlib figure.
      dots_per_inch: the pixels of an inch of it.

    Returns:
      uint8 `[height, width, 3]`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dots_per_inch)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    _pyplot().close(figure)
    return np.array(canvas.buffer_rgba())[..., :3]


def expect_matplotlib() -> None:
    """Checks, before long work, that pictures can be drawn.

    ```python
    fr.pictures.expect_matplotlib()
    ```

    Raises:
      ImportError: if Matplotlib is not installed.
    """
    _pyplot()


def _draw_map(axes, values, title, **colors):
    """Draws one number a pixel, `[height, width]`, and the scale of its colors."""
    axes.figure.colorbar(axes.imshow(values, **colors), ax=axes, shrink=0.8)
    _add_title(axes, title)


def _add_title(axes, title):
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def _to_unit_range(images, value_range):
    """Images with values from 0 to 1."""
    low, high = expect_value_range(value_range)
    return (np.asarray(images) - low) / (high - low)


def _is_not_flat(image):
    """Where neighbouring pixels differ."""
    return np.hypot(*np.gradient(image.mean(axis=-1))) > _VISIBLE_DIFFERENCE


def _pyplot():
    """Matplotlib's pyplot, which only pictures need."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(f"Expected Matplotlib to be installed: pip install matplotlib. Received {error}.") from error
    return pyplot

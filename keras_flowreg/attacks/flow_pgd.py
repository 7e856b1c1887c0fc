"""Projected gradient ascent over flows."""

from typing import Any, Optional

import keras

from keras_flowreg.attacks.pgd import PGD
from keras_flowreg.ops.units import pixels_from_normalized
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow, SmoothFlow
from keras_flowreg.types import JitCompile, Loss, ValueRange


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowPGD(PGD):
    """`PGD` over a flow, one displacement for each pixel.

    The loss is piecewise smooth in a flow, with a kink wherever a pixel is taken from a whole position. So it has many local
    maxima, and this ascent cannot move from one to another. `FlowFrankWolfe` can, and is much stronger.

    ```python
    attack = fr.attacks.FlowPGD(epsilon=0.4, steps=5)
    adversarial_images = attack(images, labels, model=model)
    authors = fr.attacks.FlowPGD.from_paper(image_size=8, steps=10)
    ```

    Args:
      epsilon: the radius of the ball, in pixels.
      steps, step_size, start, restarts, momentum, step_decay: the options of `PGD`. The step size is in pixels.
      norm: what is at most ε: with `"linf"` every component of every displacement, with `"pixel_l2"` the length of every
        displacement, with `"l2"` the length of the flow as one vector.
      control_points: how many rows and columns of control points a smooth flow has; see `perturbations.SmoothFlow`.
      smoothing: the standard deviation of the Gaussian that smooths the flow, in pixels. A smooth flow cannot have the
        norm `"l2"`.
      lattice: the warp's derivative at integer positions: `"forward"`, `"backward"` or `"central"`; see `ops.warp`. Where
        the two sides differ, the central rule gives the direction in which the loss rises most.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021,
    for flows (see `from_paper`).
    """

    def __init__(
        self,
        epsilon: float,
        *,
        steps: int = 20,
        step_size: Optional[float] = None,
        start: str = "random",
        restarts: int = 1,
        momentum: float = 0.0,
        step_decay: str = "constant",
        norm: str = "linf",
        control_points: Optional[int] = None,
        smoothing: float = 0.0,
        lattice: str = "central",
        loss: Optional[Loss] = None,
        targeted: bool = False,
        value_range: ValueRange = (0.0, 1.0),
        seed: int = 0,
        jit_compile: JitCompile = "auto",
        name: Optional[str] = None,
    ):
        smooth = control_points is not None or smoothing != 0
        if smooth and norm == "l2":
            raise ValueError("Expected `norm` to be 'linf' or 'pixel_l2' for a smooth flow. Received 'l2'.")
        expect_one_of("lattice", lattice, DERIVATIVE_RULES)
        super().__init__(
            SmoothFlow(control_points, smoothing, lattice) if smooth else Flow(lattice),
            epsilon,
            steps=steps,
            step_size=step_size,
            start=start,
            restarts=restarts,
            momentum=momentum,
            step_decay=step_decay,
            norm=norm,
            loss=loss,
            targeted=targeted,
            value_range=value_range,
            seed=seed,
            jit_compile=jit_compile,
            name=name,
        )
        self.control_points = control_points
        self.smoothing = expect_not_negative("smoothing", smoothing)
        self.lattice = lattice

    @classmethod
    def from_paper(cls, image_size: int, *, epsilon: float = 0.01, steps: int = 100, **options: Any) -> "FlowPGD":
        """The authors' multi-step attack: sign steps of ε / steps each, from zero.

        Two things differ. The authors return the last iterate, and this attack returns the best. Their images are black
        outside, and here the nearest edge pixel lies there.

        Args:
          image_size: height and width of the images, in pixels.
          epsilon: the radius, in normalized coordinates from -1 to 1.
          steps: how many steps there are; the authors' K.
          **options: the other options of `FlowPGD`.

        Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients",
        2021, and its authors' published code.
        """
        radius = pixels_from_normalized(epsilon, image_size)
        settings = {"start": "zero", "lattice": "forward", **options}
        return cls(radius, steps=steps, step_size=radius / expect_positive_integer("steps", steps), **settings)

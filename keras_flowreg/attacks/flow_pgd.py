"""Projected gradient ascent over flows."""

import keras

from keras_flowreg.attacks.pgd import PGD
from keras_flowreg.ops.units import pixels_from_normalized
from keras_flowreg.ops.validation import expect_not_negative, expect_one_of, expect_positive_integer
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow, SmoothFlow


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowPGD(PGD):
    """`PGD` over a flow, one displacement for each pixel.

    The loss is piecewise smooth in a flow, with a kink wherever a pixel is taken from a whole position, and
    so has many local maxima between which this ascent cannot move. `FlowFrankWolfe` can, and is much stronger.

    ```python
    attack = fr.attacks.FlowPGD(epsilon=0.4, steps=5)
    adversarial_images = attack(images, labels, model=model)
    authors = fr.attacks.FlowPGD.from_paper(image_size=8, steps=10)
    ```

    Args:
      epsilon: the radius of the ball, in pixels.
      steps, step_size, start, restarts, momentum, step_decay: as `PGD`; the step size in pixels.
      norm: `"linf"`: every component of every displacement is at most ε; `"pixel_l2"`: every displacement is
        at most ε long; `"l2"`: the flow as one vector is at most ε long.
      control_points, smoothing: of a smooth flow; see `perturbations.SmoothFlow`. Not with `"l2"`.
      lattice: the warp's derivative at integer positions; see `ops.warp`. The central rule is the direction
        in which the loss rises most, where the two sides differ.
      loss, targeted, value_range, seed, jit_compile, name: as `Attack`.

    Raises:
      ValueError, TypeError: if an option is out of its range or unknown.

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021,
    for flows (see `from_paper`).
    """

    def __init__(
        self,
        epsilon,
        *,
        steps=20,
        step_size=None,
        start="random",
        restarts=1,
        momentum=0.0,
        step_decay="constant",
        norm="linf",
        control_points=None,
        smoothing=0.0,
        lattice="central",
        loss=None,
        targeted=False,
        value_range=(0.0, 1.0),
        seed=0,
        jit_compile="auto",
        name=None,
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
    def from_paper(cls, image_size, *, epsilon=0.01, steps=100, **options):
        """The authors' multi-step attack: `steps` sign steps of ε / steps, from zero.

        Args:
              image_size: height and width of the images, in pixels.
          epsilon: in normalized [-1, 1] coordinates.
          steps: the authors' K.
          **options: the other options of `FlowPGD`.

        Two things differ: the best iterate is kept (theirs is the last), and outside the image lies its
        nearest edge pixel (theirs is black).

        Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients",
        2021, and its authors' published code.
        """
        radius = pixels_from_normalized(epsilon, image_size)
        setting = {"start": "zero", "lattice": "forward", **options}
        return cls(radius, steps=steps, step_size=radius / expect_positive_integer("steps", steps), **setting)

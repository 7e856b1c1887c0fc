"""Projected gradient ascent over flows."""

import keras

from keras_flowreg.attacks.pgd import PGD
from keras_flowreg.ops.units import pixels_from_normalized
from keras_flowreg.ops.validation import expect_one_of, expect_positive_integer
from keras_flowreg.ops.warp import DERIVATIVE_RULES
from keras_flowreg.perturbations import Flow, SmoothFlow


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowPGD(PGD):
    """`PGD` over a flow, one displacement for each pixel.

    The loss is piecewise smooth in a flow, with a kink wherever a pixel is taken from a whole position, and
    so has many local maxima between which this ascent cannot move. `FlowFrankWolfe` can, and is much stronger.

    Args:
      model: as `Attack`.
      epsilon: the radius of the ball, in pixels.
      steps, step_size, random_start, restarts, momentum, step_decay: as `PGD`; the step size in pixels.
      norm: `"linf"`: every component of every displacement is at most ε; `"pixel_l2"`: every displacement is
        at most ε long; `"l2"`: the flow as one vector is at most ε long.
      control_points, smoothing: of a smooth flow; see `perturbations.SmoothFlow`. Not with `"l2"`.
      lattice: the warp's derivative at integer positions; see `ops.warp`. The central rule is the direction
        in which the loss rises most, where the two sides differ.
      **options: `loss`, `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021,
    for flows (see `from_paper`).
    """

    def __init__(
        self,
        model,
        epsilon,
        steps=20,
        step_size=None,
        *,
        norm="linf",
        control_points=None,
        smoothing=0.0,
        lattice="central",
        **options,
    ):
        smooth = control_points is not None or smoothing != 0
        if smooth and norm == "l2":
            raise ValueError("Expected `norm` to be 'linf' or 'pixel_l2' for a smooth flow. Received 'l2'.")
        expect_one_of("lattice", lattice, DERIVATIVE_RULES)
        perturbation = SmoothFlow(control_points, smoothing, lattice) if smooth else Flow(lattice)
        super().__init__(model, perturbation, epsilon, steps, step_size, norm=norm, **options)
        self.control_points = control_points
        self.smoothing = smoothing
        self.lattice = lattice

    @classmethod
    def from_paper(cls, model, image_size, epsilon=0.01, steps=100, **options):
        """The authors' multi-step attack: `steps` sign steps of ε / steps, from zero.

        Args:
          model: as `Attack`.
          image_size: height and width of the images, in pixels.
          epsilon: in normalized [-1, 1] coordinates.
          steps: the authors' K.
          **options: as `FlowPGD`.

        Two things differ: the best iterate is kept (theirs is the last), and outside the image lies its
        nearest edge pixel (theirs is black).

        Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients",
        2021, and its authors' published code.
        """
        radius = pixels_from_normalized(epsilon, image_size)
        setting = {"random_start": False, "lattice": "forward", **options}
        return cls(model, radius, steps, radius / expect_positive_integer("steps", steps), **setting)

    def options(self):
        options = super().options()
        del options["perturbation"]
        return {
            **options,
            "control_points": self.control_points,
            "smoothing": self.smoothing,
            "lattice": self.lattice,
        }

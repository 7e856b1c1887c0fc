"""Projected gradient ascent over additive noise: the usual adversarial images, for comparison."""

import keras

from keras_flowreg.attacks.pgd import PGD
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.perturbations import Additive

NORMS = ("linf", "l2")


@keras.saving.register_keras_serializable(package="keras_flowreg")
class IntensityPGD(PGD):
    """`PGD` over what is added to the image's values, which moves no pixel.

    Args:
      model: as `Attack`.
      epsilon: the radius of the ball, in the units of the image's values.
      steps, step_size, random_start, restarts, momentum, step_decay: as `PGD`.
      norm: `"linf"` or `"l2"`.
      **options: `loss`, `targeted`, `value_range`, `seed`, `jit_compile`, `name`, as `Attack`.

    Raises:
      ValueError, TypeError: if an argument is out of its range, or an option is unknown.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018.
    """

    def __init__(self, model, epsilon, steps=20, step_size=None, *, norm="linf", **options):
        super().__init__(
            model, Additive(), epsilon, steps, step_size, norm=expect_one_of("norm", norm, NORMS), **options
        )

    def options(self):
        options = super().options()
        del options["perturbation"]
        return options

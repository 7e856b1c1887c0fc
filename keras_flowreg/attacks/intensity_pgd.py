"""Projected gradient ascent over additive noise: the usual adversarial images, for comparison."""

from typing import Optional

import keras

from keras_flowreg.attacks.pgd import PGD
from keras_flowreg.ops.validation import expect_one_of
from keras_flowreg.perturbations import Additive
from keras_flowreg.types import JitCompile, Loss, ValueRange

NORMS = ("linf", "l2")


@keras.saving.register_keras_serializable(package="keras_flowreg")
class IntensityPGD(PGD):
    """`PGD` over what is added to the image's values, which moves no pixel.

    ```python
    adversarial_images = fr.attacks.IntensityPGD(epsilon=0.1, steps=5)(images, labels, model=model)
    ```

    Args:
      epsilon: the radius of the ball, in the units of the image's values.
      steps, step_size, start, restarts, momentum, step_decay: the options of `PGD`.
      norm: `"linf"` or `"l2"`.
      loss, targeted, value_range, seed, jit_compile, name: what every `Attack` has.

    Raises:
      ValueError: if an option is out of its range.
      TypeError: if an option is unknown.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018.
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
        loss: Optional[Loss] = None,
        targeted: bool = False,
        value_range: ValueRange = (0.0, 1.0),
        seed: int = 0,
        jit_compile: JitCompile = "auto",
        name: Optional[str] = None,
    ):
        super().__init__(
            Additive(),
            epsilon,
            steps=steps,
            step_size=step_size,
            start=start,
            restarts=restarts,
            momentum=momentum,
            step_decay=step_decay,
            norm=expect_one_of("norm", norm, NORMS),
            loss=loss,
            targeted=targeted,
            value_range=value_range,
            seed=seed,
            jit_compile=jit_compile,
            name=name,
        )

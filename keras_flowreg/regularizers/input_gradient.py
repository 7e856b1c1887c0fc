"""Input-gradient regularization."""

from typing import Any

import keras

from keras_flowreg.perturbations import Additive
from keras_flowreg.regularizers.gradient import GradientRegularizer
from keras_flowreg.types import Config


@keras.saving.register_keras_serializable(package="keras_flowreg")
class InputGradientRegularizer(GradientRegularizer):
    """Input-gradient regularization: penalizes ∂loss/∂image.

    ```python
    regularizer = fr.InputGradientRegularizer(weight=0.1)
    predictions, penalty = regularizer(model, images, labels)
    ```

    Args:
      weight: the factor of the penalty in the total loss, not negative.
      **options: the other options of `GradientRegularizer`: `loss`, `random_start` (in the units of the image's values),
        `gradient_at`, `gradient_norm`, `gradient`, `method`, `step`, `model_mode` and `fraction`.

    Raises:
      ValueError: if an option is out of its range or unknown.

    Reference: Drucker and LeCun, "Improving generalization performance using double backpropagation", 1992; Ross and
    Doshi-Velez, "Improving the adversarial robustness and interpretability of deep neural networks by regularizing their
    input gradients", 2018.
    """

    def __init__(self, weight: float, **options: Any):
        super().__init__(Additive(), weight, **options)

    def get_config(self) -> Config:
        config = super().get_config()
        del config["perturbation"]
        return config

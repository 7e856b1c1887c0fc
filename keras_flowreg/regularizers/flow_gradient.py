"""Flow-gradient regularization."""

from typing import Any

import keras

from keras_flowreg.perturbations import Flow
from keras_flowreg.regularizers.gradient import GradientRegularizer
from keras_flowreg.types import Config


@keras.saving.register_keras_serializable(package="keras_flowreg")
class FlowGradientRegularizer(GradientRegularizer):
    """Flow-gradient regularization: penalizes ∂loss/∂flow, at a flow of zero or near it.

    A model with a smooth activation (swish, GELU) gains much more by it than one with ReLU, whose gradients jump.
    docs/reproduction.md has the figures, docs/ablation.md those of other choices.

    ```python
    regularizer = fr.FlowGradientRegularizer(weight=4.4, random_start=0.155)
    regularized = fr.FlowRegularizedModel(model, regularizer)
    regularized.compile("sgd", model.loss)
    regularized.fit(images, labels, verbose=0)
    ```

    Args:
      weight: the factor of the penalty in the total loss, not negative. `weight_from_paper` converts the paper's λ.
      random_start: the standard deviation of each displacement's start in training, in pixels; 0 for none.
      lattice: the warp's derivative at integer positions: `"forward"`, `"backward"`, `"central"` or `"two_sided"`; see
        `ops.warp`.
      implementation: which warp is used: `"native"`, `"tfa"` (TensorFlow Addons'), or `"auto"` (that one where it is
        installed).
      **options: the other options of `GradientRegularizer`: `loss`, `gradient_at`, `gradient_norm`, `gradient`, `method`,
        `step`, `model_mode` and `fraction`.

    Raises:
      ValueError: if an option is out of its range or unknown.

    Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021.
    """

    def __init__(
        self,
        weight: float,
        *,
        random_start: float = 0.0,
        lattice: str = "two_sided",
        implementation: str = "native",
        **options: Any,
    ):
        super().__init__(Flow(lattice, implementation), weight, random_start=random_start, **options)

    def get_config(self) -> Config:
        config = super().get_config()
        del config["perturbation"]
        return {**config, **self.perturbation.get_config()}

"""A Keras model that is compiled as fits the machine that it is on."""

from typing import Any

import keras

from keras_flowreg import compat
from keras_flowreg.types import Config
from keras_flowreg.wrapped import Wrapper


class CompiledForMachine(Wrapper, keras.Model):
    """A model that trains another one, and chooses XLA by the machine, and a scale of the loss by the policy."""

    def compile(self, optimizer: Any = "rmsprop", *args: Any, jit_compile: Any = "auto", **kwargs: Any) -> None:
        """Configures the model as `keras.Model.compile` does, with the same arguments.

        Args:
          optimizer: any optimizer that Keras trains with. Under the policy `mixed_float16` it scales the loss.
          *args, **kwargs: the other arguments of `keras.Model.compile`.
          jit_compile: whether to compile the steps with XLA. `"auto"` does where there is a GPU and no distribution
            strategy, since XLA's convolutions are slow on a CPU, and where XLA knows all of Keras's layers in the model: it
            knows no random rotations, for one.
        """
        self._chooses_jit_compile = jit_compile == "auto"
        if self._chooses_jit_compile:
            jit_compile = compat.jit_compile_on_this_machine(self.base_model)
        if kwargs.get("auto_scale_loss", True):
            optimizer = compat.with_loss_scaling(optimizer, self.base_model)
        super().compile(optimizer, *args, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config: Config) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and hasattr(self.optimizer, "build"):
            self.optimizer.build(self.trainable_variables)

    def get_compile_config(self) -> Config:
        # Another machine, which loads the model, chooses for itself.
        config = super().get_compile_config()
        return {**config, "jit_compile": "auto"} if config and self._chooses_jit_compile else config

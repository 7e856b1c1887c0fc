"""What a pass through a model changes besides its predictions: moving statistics, and where random layers stand."""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.types import Images, KerasModel, Scalar


class State(NamedTuple):
    """The values of a model's variables that are not trained."""

    variables: list[tf.Variable]
    values: list[tf.Tensor]

    def restore(self) -> None:
        """Gives the variables these values."""
        for variable, value in zip(self.variables, self.values):
            variable.assign(value)

    def restore_unless(self, is_good: tf.Tensor) -> None:
        """Gives the variables these values if something went wrong."""
        for variable, value in zip(self.variables, self.values):
            variable.assign(tf.where(is_good, tf.convert_to_tensor(variable), value))

    def mix_in(self, fraction: Scalar) -> None:
        """Gives the variables a fraction of these values, and the rest of their own."""
        for variable, value in zip(self.variables, self.values):
            fraction = tf.cast(fraction, value.dtype)
            variable.assign(fraction * value + (1 - fraction) * tf.convert_to_tensor(variable))


def build(model: KerasModel, images: Images) -> None:
    """Makes the variables of a model that has none yet."""
    if not model.built and images.shape[1:].is_fully_defined():
        with tf.init_scope():
            compat.build(model, images.shape[1:])


def statistics(model: KerasModel) -> State:
    """What a model's moving statistics are now."""
    return _state(variable for variable in _untrained(model) if variable.dtype.is_floating)


def has_losses_of_activations(model: KerasModel) -> bool:
    """Whether a model that has run has losses beside those of its weights."""
    return len(model.losses) > len(compat.weight_losses(model))


@contextlib.contextmanager
def passes_over_one_batch(model: KerasModel) -> Iterator["Passes"]:
    """Passes in this scope draw the same masks and noise, and the first one alone counts for the statistics."""
    with compat.repeatable_draws() as restart:
        yield Passes(_state([*_untrained(model), *compat.shared_draws()]), restart)


class Passes:
    """The passes of a model over one batch."""

    def __init__(self, before: State, restart: Callable[[], None]):
        self._before = before
        self._restart = restart

    @contextlib.contextmanager
    def another(self) -> Iterator[None]:
        """The model passes once more over the batch in this scope."""
        after = _state(self._before.variables)
        self._before.restore()
        self._restart()
        yield
        after.restore()


def _untrained(model):
    """The variables that nothing trains; those that are frozen for now stay what they are."""
    variables = compat.tf_variables(model.non_trainable_variables) if model.built else []
    return [variable for variable in variables if not variable.trainable]


def _state(variables):
    variables = list(variables)
    return State(variables, [tf.identity(variable) for variable in variables])

"""Random layers of Keras 2 that can draw the same again.

They draw by TensorFlow's operations with a state of their own, which nobody can set back. So in the scope `repeatable` they
draw by operations without a state, from a seed of the scope and the number of the draw.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Optional

import keras
import tensorflow as tf

_draws: contextvars.ContextVar[Optional["_Draws"]] = contextvars.ContextVar("draws", default=None)


class _Draws:
    """The seeds of a scope."""

    def __init__(self) -> None:
        self._seed = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
        self._count = 0

    def restart(self) -> None:
        self._count = 0

    def next_seed(self) -> tf.Tensor:
        self._count += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._count)


@contextlib.contextmanager
def repeatable() -> Iterator[Callable[[], None]]:
    """Gives a function that starts the draws of this scope, and thread, anew."""
    _install()
    draws = _Draws()
    token = _draws.set(draws)
    try:
        yield draws.restart
    finally:
        _draws.reset(token)


@functools.cache
def _install():
    """Puts the draws without a state beside Keras's own, once for the whole process."""
    from keras.src.backend import RandomGenerator

    for name, counterpart in _COUNTERPARTS.items():
        setattr(RandomGenerator, name, _either(getattr(RandomGenerator, name), counterpart))


def _either(original, counterpart):
    @functools.wraps(original)
    def draw(generator, *args, **kwargs):
        draws = _draws.get()
        if draws is None:
            return original(generator, *args, **kwargs)
        return counterpart(draws.next_seed(), *args, **kwargs)

    return draw


def _normal(seed, shape, mean=0.0, stddev=1.0, dtype=None, nonce=None):
    return tf.random.stateless_normal(shape, seed, mean, stddev, dtype or keras.backend.floatx())


def _truncated_normal(seed, shape, mean=0.0, stddev=1.0, dtype=None, nonce=None):
    return tf.random.stateless_truncated_normal(shape, seed, mean, stddev, dtype or keras.backend.floatx())


def _uniform(seed, shape, minval=0.0, maxval=None, dtype=None, nonce=None):
    return tf.random.stateless_uniform(shape, seed, minval, maxval, dtype or keras.backend.floatx())


def _seed(seed):
    return seed


def _dropout(seed, inputs, rate, noise_shape=None):
    return tf.nn.experimental.stateless_dropout(inputs, rate, seed, noise_shape=noise_shape)


_COUNTERPARTS = {
    "random_normal": _normal,
    "random_uniform": _uniform,
    "truncated_normal": _truncated_normal,
    "dropout": _dropout,
    "make_seed_for_stateless_op": _seed,
}

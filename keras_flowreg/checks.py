"""A check that a model can be differentiated twice: what a gradient penalty is trained by.

With h(x) = <u, f(x)>, for a layer f, the first derivative is G = ∂h/∂x. Its own derivatives are tried:

- with respect to u. G is linear in u, so that <∂<G, v>/∂u, w> has to be <G(w), v>, to rounding, at kinks too.
- with respect to x. A difference of G at two points has to agree. Where f has kinks, as behind ReLU, differences of two
  sizes do not agree with each other, and say nothing.

A penalty as a whole is not tried. It jumps wherever a ReLU opens or closes, and so no difference of it is its slope.
"""

import concurrent.futures
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, Optional
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.augmentation import augmentation_behind_others
from keras_flowreg.ops import random
from keras_flowreg.ops.validation import as_images, expect_boolean, expect_instance
from keras_flowreg.second_derivatives import exact_second_derivatives
from keras_flowreg.states import passes_over_one_batch
from keras_flowreg.types import Images, KerasModel

__all__ = ["InexactLayer", "second_derivative"]

_EXAMPLES = 4
_PASSES = 8  # more, which show whether a mask is drawn anew
_PRECISE = (tf.float32, tf.float64)
_TOLERANCE = 0.02
_STEP = 3e-3  # of the inputs' standard deviation


class InexactLayer(NamedTuple):
    """A layer whose second derivative is wrong, or missing."""

    name: str
    kind: str  # its class
    reason: str

    def __str__(self):
        return f"{self.name} ({self.kind}): {self.reason}"


def second_derivative(model: KerasModel, images: Images, *, training: bool = True) -> list[InexactLayer]:
    """Finds the layers of a model whose second derivative is wrong or missing.

    The model runs as it does under a penalty, with the closed forms of `exact_second_derivatives`. Layers that draw at
    random, as Dropout does, are left out: in what they do to a batch they are linear; so are those in half precision, whose
    differences say nothing. Of several layers of Keras that are alike but for their size, the first is tried. A model's own
    `call` is tried in inference mode too where training draws at random. Weights and statistics stay what they are.

    ```python
    print(fr.checks.second_derivative(model, images))  # []: all are exact
    ```

    Args:
      model: a Keras model.
      images: `[batch, height, width, channels]`; the first few are enough.
      training: the mode that the model is run in.

    Returns:
      A list of `InexactLayer`; empty where all is well.

    Raises:
      TypeError: if `model` is not a Keras model.
    """
    expect_instance("model", model, keras.Model)
    expect_boolean("training", training)
    images = as_images(images)[:_EXAMPLES]
    with _variables_restored(model), exact_second_derivatives():
        with _recorded_calls() as calls:
            model(images, training=training)
        found = [_trial(call, training) for call in _one_of_each_kind(calls)]
        if not any(found) and not _is_made_of_layers(model):
            is_random = training and any(map(compat.draws_at_random, compat.all_layers(model)))
            modes = (training, False) if is_random else (training,)
            faults = (_trial(_Call(model, images, (), {}), mode) for mode in modes)
            found = [next((fault for fault in faults if fault is not None), None)]
    return [fault for fault in found if fault is not None]


def expect_second_derivative(model: KerasModel, image_shape: tf.TensorShape) -> None:
    """Checks the second derivatives of a model that is not made of Keras's layers alone, on noise.

    Raises:
      ValueError: if a layer's is wrong or missing.
    """
    if not all(_is_of_keras(layer) for layer in compat.all_layers(model)):
        faults = faults_on_noise(model, image_shape)
        if faults:
            raise ValueError(
                "Expected layers whose second derivatives are exact, since a gradient penalty is trained by them. "
                f"Received {'; '.join(map(str, faults))} Construct the regularizer with method='finite_difference', or "
                "FlowRegularizedModel with check_layers=False."
            )


def expect_repeatable_draws(model: KerasModel, image_shape: tf.TensorShape) -> None:
    """Checks that two passes of a model over one batch can draw the same, if it is not made of Keras's layers alone.

    Raises:
      ValueError: if they cannot, as where a layer draws by `tf.random`.
    """
    if all(_is_of_keras(layer) for layer in compat.all_layers(model)):
        return

    def predictions(images):
        model(images, training=False)  # Which makes what a model of its own `call` has not made yet.
        with _variables_restored(model), passes_over_one_batch(model) as passes:
            yield model(images, training=True)
            for _ in range(_PASSES):
                with passes.another():
                    yield model(images, training=True)

    first, *others = _on_noise(lambda images: [tf.cast(each, tf.float32) for each in predictions(images)], image_shape)
    tolerance = _TOLERANCE * np.abs(first).max()
    if not all(np.allclose(first, other, rtol=_TOLERANCE, atol=tolerance) for other in others):
        raise ValueError(
            "Expected layers that draw by keras.random, or by a generator of Keras's, since both passes of the penalty have to "
            "draw the same noise. Received a model with others: a gradient penalty with method='exact' has one pass."
        )


def says_no_derivative(error: Exception) -> bool:
    """Whether an error of TensorFlow's tape says so: an operation has none, or it is inside of a graph of the model's own."""
    first: BaseException = error
    while (earlier := first.__cause__ or first.__context__) is not None:
        first = earlier
    return isinstance(error, LookupError) or "out of scope" in str(error) or repr(first) == "AssertionError()"


def without_derivative(model: KerasModel, image_shape: tf.TensorShape, error: Exception, twice: bool) -> ValueError:
    """What to say of a model, one of whose operations has no derivative that a penalty needs, if it is taken twice or once."""
    layers = "; ".join(map(str, faults_on_noise(model, image_shape))) if twice else ""
    behind = augmentation_behind_others(model)
    if behind and not layers:
        return ValueError(
            "Expected random augmentation to come before all other layers, or in the data set: some of it has no derivative. "
            f"Received {', '.join(behind)} behind others."
        )
    way = "construct the regularizer with method='finite_difference' for a model that has none"
    second = f"second derivative, which the exact gradient penalty needs: {way}"
    needed = f"a {second}" if twice else "a derivative, which the penalty needs"
    graph = "a graph (`tf.function`, `tf.cond`) that is to be taken out of it"
    received = layers or f"an operation without one, or {graph}: {error}"
    return ValueError(f"Expected every operation of the model to have {needed}. Received {received}")


def faults_on_noise(model: KerasModel, image_shape: tf.TensorShape) -> list[InexactLayer]:
    """What `second_derivative` finds with images of noise; a height or width that is not known is 32 pixels."""
    return _on_noise(lambda images: second_derivative(model, images), image_shape)


def _on_noise(function, image_shape):
    """A function of images of noise. It can be called while a step is traced: in a thread of its own nothing is."""
    shape = [_EXAMPLES, *(32 if size is None else size for size in image_shape[1:])]
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(lambda: function(random.uniform(shape, [0, 3]))).result()


def _is_of_keras(layer):
    """Whether Keras ships a layer, and whatever it calls."""
    is_function = type(layer).__name__.endswith("Lambda")
    parts = (type(layer), getattr(layer, "activation", None))
    modules = [getattr(part, "__module__", None) or "keras" for part in parts]
    return not is_function and all(module.split(".")[0] in ("keras", "keras_flowreg") for module in modules)


class _Call(NamedTuple):
    """How a layer was called."""

    layer: keras.layers.Layer
    inputs: tf.Tensor
    others: tuple
    options: dict


_lock = threading.Lock()
_calls: contextvars.ContextVar[Optional[list[_Call]]] = contextvars.ContextVar("calls", default=None)


@contextlib.contextmanager
def _recorded_calls() -> Iterator[list[_Call]]:
    """Lists the calls of layers in this scope, by this thread."""
    calls: list[_Call] = []
    token = _calls.set(calls)

    def record(layer, *args, **options):
        made = _calls.get()
        # Keras calls layers on symbols too, when it builds a model.
        has_values = tf.executing_eagerly() and args and tf.is_tensor(args[0]) and args[0].dtype in _PRECISE
        if made is not None and has_values:
            made.append(_Call(layer, args[0], args[1:], options))
        return call(layer, *args, **options)

    try:
        with _lock:
            call = keras.layers.Layer.__call__
            with mock.patch.object(keras.layers.Layer, "__call__", record):
                yield calls
    finally:
        _calls.reset(token)


@contextlib.contextmanager
def _variables_restored(model: KerasModel) -> Iterator[None]:
    variables = compat.tf_variables(model.variables)
    state = [variable.read_value() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, state):
            variable.assign(value)


def _one_of_each_kind(calls):
    """The calls of layers that hold no others and draw nothing; of Keras's, one of each class and activation."""
    kinds: dict[tuple, _Call] = {}
    for call in calls:
        layer = call.layer
        if len(compat.all_layers(layer)) == 1 and not compat.draws_at_random(layer):
            kind = (type(layer), getattr(layer, "activation", None)) if _is_of_keras(layer) else id(layer)
            kinds.setdefault((kind, call.inputs.shape.rank), call)
    return kinds.values()


def _is_made_of_layers(model):
    """Whether a model does nothing but call layers."""
    return type(model).__module__.split(".")[0] == "keras"


def _trial(call: _Call, training: bool) -> Optional[InexactLayer]:
    """What is wrong with a layer, or `None`."""
    dtype = tf.as_dtype(call.layer.compute_dtype)
    inputs = tf.cast(call.inputs, dtype) if dtype in _PRECISE else call.inputs
    try:
        reason = _fault(_function(call, training), inputs)
    except (LookupError, TypeError, AssertionError) as error:
        if not says_no_derivative(error):
            raise
        reason = f"an operation has no second derivative: {error}"
    return None if reason is None else InexactLayer(call.layer.name, type(call.layer).__name__, reason)


def _function(call, training):
    options = dict(call.options)
    if "training" in inspect.signature(call.layer.call).parameters:
        options["training"] = training
    return lambda inputs: call.layer(inputs, *call.others, **options)


def _fault(function: Callable, inputs: tf.Tensor) -> Optional[str]:
    """What is wrong with the second derivative of a function of a tensor, or `None`."""
    output = function(inputs)
    if not tf.is_tensor(output) or output.dtype not in _PRECISE:
        return None
    upstream, other = (_draw(output, seed) for seed in (0, 1))
    direction = _draw(inputs, 2) * tf.math.reduce_std(inputs)
    first = _gradient(function, inputs, upstream)
    if first is None or not np.array_equal(first, _gradient(function, inputs, upstream)):
        return None  # It depends on no input, or on chance.
    with tf.GradientTape() as tape:
        tape.watch([inputs, upstream])
        product = tf.reduce_sum(_gradient(function, inputs, upstream) * direction)
    of_upstream, of_inputs = tape.gradient(product, [upstream, inputs], unconnected_gradients="zero")
    linear = tf.reduce_sum(_gradient(function, inputs, other) * direction)
    scale = tf.norm(_gradient(function, inputs, other)) * tf.norm(direction) / direction.shape.num_elements() ** 0.5
    if abs(tf.reduce_sum(of_upstream * other) - linear) > _TOLERANCE * (abs(linear) + scale):
        return "its second derivative does not reach what lies behind it."
    near, far = (_difference(function, inputs, upstream, step * direction) / step for step in (_STEP, 2 * _STEP))
    size = np.median(np.abs(near)) + 1e-3 * np.median(np.abs(first))
    error, spread = np.median(np.abs(of_inputs - near)), np.median(np.abs(far - near))
    if error > _TOLERANCE * size and error > 3 * spread:
        return f"its second derivative is off by {100 * error / size:.0f} %."
    return None


def _gradient(function, inputs, upstream):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = function(inputs)
    return tape.gradient(output, inputs, output_gradients=upstream)


def _difference(function, inputs, upstream, move):
    after, before = (_gradient(function, place, upstream) for place in (inputs + move, inputs - move))
    return ((after - before) / 2).numpy()


def _draw(like, seed):
    return tf.cast(random.normal(tf.shape(like), [0, seed]), like.dtype)

"""Which TensorFlow, Keras and TensorFlow Addons are installed, and the few things that differ between them.

No other module asks for a version.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

try:
    import keras
    import tensorflow as tf
except ModuleNotFoundError as error:
    raise ImportError(
        "Expected TensorFlow and Keras. Received none. Choose a stack: `pip install 'keras_flowreg[keras3]'` for "
        "TensorFlow 2.16 or newer and Keras 3, or `pip install 'keras_flowreg[addons]'` for TensorFlow 2.15, Keras 2 and "
        "TensorFlow Addons, on Python 3.9 to 3.11."
    ) from error

from keras_flowreg.types import KerasModel, Scalar

KERAS_3 = int(keras.__version__.split(".")[0]) >= 3
HARD_SIGMOID_SLOPE = 1 / 6 if KERAS_3 else 0.2

if KERAS_3 and keras.backend.backend() != "tensorflow":
    raise ImportError(
        "Expected Keras to run on the TensorFlow backend (KERAS_BACKEND=tensorflow). "
        f"Received backend {keras.backend.backend()!r}."
    )

# Those that turn or stretch images at random.
_WITHOUT_XLA = (
    *("RandomRotation", "RandomZoom", "RandomTranslation", "RandomHeight", "RandomWidth", "RandomShear"),
    *("RandomPerspective", "RandomElasticTransform", "AugMix", "RandAugment"),
)
_TENSORFLOW_OPERATIONS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOperation")
# Keras 3 makes another iterator over a data set at the end of each epoch, and does not use it.
ITERATORS_PER_EPOCH = 2 if KERAS_3 else 1


def tfa_dense_image_warp() -> Any:
    """`tfa.image.dense_image_warp`, or `None` where TensorFlow Addons cannot be imported.

    TensorFlow Addons cannot be imported beside Keras 3.
    """
    if KERAS_3:
        return None
    try:
        from tensorflow_addons.image import dense_image_warp
    except ImportError:
        return None
    return dense_image_warp


def versions() -> dict[str, str]:
    """The versions of the libraries that decide a number."""
    package = sys.modules[__package__]
    return {"keras_flowreg": package.__version__, "tensorflow": tf.__version__, "keras": keras.__version__}


def gradients(
    optimizer: keras.optimizers.Optimizer, tape: tf.GradientTape, loss: Scalar, variables: Sequence[tf.Variable]
) -> list[tf.Tensor]:
    """The derivative of a loss with respect to each variable, as the optimizer's `apply_gradients` takes them.

    In mixed precision the optimizer scales the loss. Keras 2 unscales before `apply_gradients`, Keras 3 in it.
    """
    if KERAS_3:
        with tape:
            loss = optimizer.scale_loss(loss)
        return tape.gradient(loss, variables)
    if not scales_the_loss(optimizer):
        return tape.gradient(loss, variables)
    with tape:
        loss = optimizer.get_scaled_loss(loss)
    return optimizer.get_unscaled_gradients(tape.gradient(loss, variables))


def scales_the_loss(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer scales the loss, and skips the steps whose gradients are too large for half precision."""
    cls = keras.optimizers.LossScaleOptimizer if KERAS_3 else keras.mixed_precision.LossScaleOptimizer
    return isinstance(optimizer, cls)


def with_loss_scaling(optimizer: Any, model: KerasModel) -> Any:
    """An optimizer that scales the loss where Keras would have it so for a model: under `mixed_float16`."""
    if getattr(model.dtype_policy, "name", None) != "mixed_float16" or optimizer is None:
        return optimizer
    optimizer = keras.optimizers.get(optimizer)
    if scales_the_loss(optimizer):
        return optimizer
    return (keras.optimizers if KERAS_3 else keras.mixed_precision).LossScaleOptimizer(optimizer)


def batches_seen(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """How many batches an optimizer was given. With gradient accumulation that is more than it has taken steps."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return tf.convert_to_tensor(inner._iterations if KERAS_3 else inner.iterations)


@contextlib.contextmanager
def repeatable_draws() -> Iterator[Callable[[], None]]:
    """Gives a function that lets Keras 2's random layers, in this scope and thread, draw once more what they drew.

    The layers of Keras 3 keep where they stand in a variable, so that whoever restores it has the same draws.
    """
    if KERAS_3:
        yield lambda: None
        return
    from keras_flowreg import keras_2_draws

    with keras_2_draws.repeatable() as restart:
        yield restart


def shared_draws() -> list[tf.Variable]:
    """Where Keras's own generator stands, which layers without one draw from.

    Keras 2 has none that can be set back, and replicas have one each, which nobody can ask for.
    """
    if not KERAS_3 or tf.distribute.has_strategy():
        return []
    from keras.src.random import seed_generator

    with tf.init_scope():  # The first one who asks makes it.
        return tf_variables([seed_generator.global_seed_generator().state])


def runs_its_layers(model: KerasModel) -> bool:
    """Whether a Sequential or functional model has no `call` of its own."""
    return type(model).call.__module__.split(".")[0] == "keras"


def operation_modules() -> tuple[Any, Any, Any]:
    """The modules in which TensorFlow's own Python code looks up `moments`, pooling and resizing."""
    from tensorflow.python.ops import gen_image_ops, gen_nn_ops, nn_impl

    return nn_impl, gen_nn_ops, gen_image_ops


def jit_compile_on_this_machine(model: Optional[KerasModel] = None) -> bool:
    """Whether XLA is worth it here: with a GPU, and without a distribution strategy; and for a model, if there is one.

    XLA's convolutions are several times slower than oneDNN's on a CPU, and Keras 3 cannot compile
    a replicated step (keras-team/keras#18145). Nor does it when TensorFlow is to be deterministic.
    """
    from tensorflow.python.framework import config

    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    if not has_gpu or tf.distribute.has_strategy() or config.is_op_determinism_enabled():
        return False
    return model is None or all(map(_compiles_with_xla, all_layers(model)))


def _compiles_with_xla(layer):
    """Whether XLA has all operations of a layer of Keras, and of its gradient. Of other layers nobody knows."""
    return type(layer).__name__ not in _WITHOUT_XLA and getattr(layer, "interpolation", "bilinear") == "bilinear"


def build(model: KerasModel, image_shape: Sequence[int]) -> None:
    """Makes the variables of a subclassed model. Keras 3 makes them in a call, and Keras 2 keeps the batch size of one."""
    model(tf.zeros([1, *image_shape]) if KERAS_3 else keras.Input(image_shape), training=False)


def build_optimizer(optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> None:
    """Makes an optimizer's variables. Keras 2's legacy optimizers make them in a step alone."""
    if hasattr(optimizer, "build") and not getattr(optimizer, "built", False):
        optimizer.build(variables)


def build_metrics(model: KerasModel, labels: Any, predictions: Any) -> None:
    """Makes a compiled model's metrics, for symbols of its labels and predictions."""
    metrics = model._compile_metrics if KERAS_3 else model.compiled_metrics
    if metrics is not None and not metrics.built:
        metrics.build(*((labels, predictions) if KERAS_3 else (predictions, labels)))


def symbolic_output(model: KerasModel) -> Any:
    """A symbol of the shape and dtype of a model's predictions, or `None` where a model has none."""
    outputs: Any = getattr(model, "outputs", None)
    shape = tf.TensorShape(outputs[0].shape if outputs else None)
    return tf.TensorSpec([None, *shape[1:]], outputs[0].dtype) if shape.rank else None


def symbolic_call(layer: keras.layers.Layer, tensor: Any) -> Any:
    """What a layer gave for a symbolic tensor, when its model was last made, or `None`."""
    for node in reversed(layer._inbound_nodes):
        inputs = node.input_tensors if KERAS_3 else node.keras_inputs
        if len(inputs) == 1 and inputs[0] is tensor:
            return tf.nest.flatten(node.outputs)[0]
    return None


def all_layers(model: KerasModel) -> list[keras.layers.Layer]:
    """The model itself, its layers, and the layers within them."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def as_keras_hands_on(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    """Labels as Keras hands them to a loss in training.

    They have the dtype of the predictions; Keras 2 keeps integers. Indices `[batch]` become `[batch, 1]`; of Keras 3 only
    beside predictions `[batch, 1]`.
    """
    if labels.shape.rank == 1 and predictions.shape.rank == 2 and (not KERAS_3 or predictions.shape[1] == 1):
        labels = labels[:, tf.newaxis]
    return tf.cast(labels, predictions.dtype) if KERAS_3 or labels.dtype.is_floating else labels


def compiled(model: KerasModel) -> Any:
    """An object that each `compile` makes anew, or `None` for a model that is not compiled."""
    return model._compile_loss if KERAS_3 else model.compiled_loss


def draws_at_random(layer: keras.layers.Layer) -> bool:
    """Whether a layer of Keras draws at random in training."""
    return any(hasattr(layer, name) for name in ("seed_generator", "_random_generator"))


def tf_variables(variables: Sequence[Any]) -> list[tf.Variable]:
    """Keras variables as `tf.Variable`s, which Keras 3 wraps."""
    return [variable.value if KERAS_3 else variable for variable in variables]


def weight_losses(model: KerasModel) -> list[Callable[[], Scalar]]:
    """The losses of a model's weight regularizers, each as a function of no arguments."""
    if KERAS_3:
        regularized = [weight for weight in model.trainable_variables if weight.regularizer is not None]
        return [functools.partial(weight.regularizer, weight) for weight in regularized]
    return [loss for layer in all_layers(model) for loss in layer._callable_losses]


@contextlib.contextmanager
def symbols_taken_by_tensorflow() -> Iterator[None]:
    """In this scope, TensorFlow's functions take symbolic tensors, which in Keras 2 they always do."""
    if not KERAS_3:
        yield
        return
    from keras_flowreg import keras_3_symbols

    with keras_3_symbols.taken_by_tensorflow():
        yield


def nodes(model: KerasModel) -> list[tuple[Any, Any, Any, Any, Any]]:
    """Every call in a functional model, in order.

    Returns:
      For each `(layer, inputs, outputs, positional, named)`: the layer or the operation, the symbolic tensors that it takes and
      gives, and what it is called with, by position and by name, with those it takes among it.
    """
    found = [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]
    return [_parts_of(node) for node in found if not node.is_input]


def _parts_of(node):
    if KERAS_3:
        return node.operation, node.input_tensors, node.output_tensors, node.arguments.args, node.arguments.kwargs
    return node.layer, node.keras_inputs, node.outputs, node.call_args, node.call_kwargs


def written_mode(training: Any) -> Optional[bool]:
    """The mode that an argument of a call sets whatever the model's is. In Keras 3 the model's rules."""
    return bool(training) if isinstance(training, (bool, int)) and not KERAS_3 else None


def is_operation(layer: Any) -> bool:
    """Whether what a graph calls is an operation outside of layers."""
    return not isinstance(layer, keras.layers.Layer) or type(layer).__name__ in _TENSORFLOW_OPERATIONS


def function_of(layer: Any) -> Callable[..., Any]:
    """What a layer does, or an operation, without what Keras does around it: its `call`."""
    if type(layer).__name__ == "SlicingOpLambda":  # It takes slices in another form than the function in it.
        return layer
    return layer.function if type(layer).__name__ == "TFOpLambda" else layer.call


def operation_name(layer: Any) -> str:
    """What an operation outside of layers is called, without underscores, such as `"expanddims"`; `""` for a layer."""
    if type(layer).__name__ in _TENSORFLOW_OPERATIONS:
        return layer.symbol.split(".")[-1].replace("_", "")
    options = [getattr(layer, name, None) for name in ("negative_slope", "max_value", "threshold")]
    is_of_keras = type(layer).__module__.startswith(("keras.src.ops.", "keras.src.activations."))
    return type(layer).__name__.lower() if is_of_keras and not any(options) else ""

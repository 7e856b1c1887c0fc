"""Rules for operations outside of layers, such as `keras.ops.mean(x, axis=1)` in a functional model."""

import math
from collections.abc import Callable, Sequence
from typing import Optional, Union

import numpy as np
import tensorflow as tf
from keras import layers

from keras_flowreg import compat
from keras_flowreg.certification.activation_rules import ACTIVATIONS
from keras_flowreg.certification.arithmetic import Steps, arithmetic_steps
from keras_flowreg.certification.calls import LayerCall
from keras_flowreg.certification.curves import square_root
from keras_flowreg.certification.layouts import Layout, layout_of_output
from keras_flowreg.certification.linear_rules import Weightless
from keras_flowreg.certification.normalization_rules import centering_step
from keras_flowreg.certification.products import Product, Square
from keras_flowreg.certification.rules import described, steps_of, unknown
from keras_flowreg.certification.softmax import Softmax
from keras_flowreg.certification.steps import Linear, MaxPool, Step, Taking
from keras_flowreg.ops import random

# They put values elsewhere, repeat them, or add some up.
_LINEAR = (
    *("transpose", "swapaxes", "moveaxis", "squeeze", "expanddims", "spacetodepth", "depthtospace", "identity"),
    *("flip", "flipleftright", "flipupdown", "reverse", "roll", "getitem", "tile", "repeat", "extractpatches"),
    *("concat", "concatenate", "stack", "split", "unstack", "sum", "reducesum", "mean", "reducemean"),
    *("averagepool", "avgpool", "avgpool2d"),
)
_CASTS = ("cast", "converttotensor")
# What the batch is may be written into them.
_WITH_SHAPE = {"reshape": tf.reshape, "broadcastto": tf.broadcast_to}
# Of values and of weights.
_WEIGHTED = (
    *("matmul", "dot", "tensordot", "einsum", "convolution", "conv", "conv2d"),
    *("depthwiseconv", "depthwiseconv2d", "separableconv", "separableconv2d"),
)
_OTHER_NAMES = {"truediv": "divide", "truedivide": "divide", "pow": "power", "abs": "absolute", "biasadd": "add"}

Shapes = Callable[[], Sequence[tf.TensorShape]]

_IMAGES = 7  # that tell whether an operation leaves them apart: a prime, which few moves along the batch go round


def operation_steps(call: LayerCall, shapes: Shapes, layouts: Sequence[Layout]) -> list[Union[Step, Taking]]:
    """The steps of an operation.

    Args:
      call: its call.
      shapes: gives the shape of each input, with a batch of one.
      layouts: where each input has the batch.

    Raises:
      ValueError: if there is no rule for it.
    """
    name = compat.operation_name(call.layer)
    name = _OTHER_NAMES.get(name, name)
    steps: Optional[Steps] = None
    if name == "stopgradient":
        steps = []
    elif name in _LINEAR or (name in _CASTS and _keeps_float32(call)):
        steps = _beside_arrays(call, shapes(), layouts)
    elif name == "pad":
        steps = _padded(call, shapes(), layouts)
    elif name in _WITH_SHAPE and len(call.inputs) == 1:
        steps = [_with_shape(_WITH_SHAPE[name], call, shapes(), *layouts)]
    elif name in _WEIGHTED and len(call.inputs) == 1:
        steps = [_weighted(call)]
    elif name == "matmul" and not _arrays(call):
        steps = _matrix_product(call, shapes())
    elif name in ("var", "reducevariance"):
        steps = _variance(call, "axis", shapes())
    elif name == "norm":
        steps = _norm(call, shapes())
    elif name == "moments":
        steps = _variance(call, "axes", shapes()) if call.part else _beside_arrays(call, shapes(), layouts)
    elif name in ("max", "reducemax"):
        steps = _greatest_along_axes(call, shapes())
    elif name in ("maxpool", "maxpool2d"):
        steps = _max_pooling(call, shapes())
    elif name in ("normalize", "l2normalize") and not _option(call, "epsilon"):
        steps = steps_of(layers.UnitNormalization(_option(call, "axis")))
    elif name == "softmax" and _options(call) in ([], [-1]):
        steps = [Softmax()]
    elif name == "gelu" and _option(call, "approximate"):
        steps = [ACTIVATIONS["gelu_tanh"]()]
    else:
        steps = arithmetic_steps(name, call)
    if steps is None:
        raise unknown(call.layer)
    return list(steps)


def _beside_arrays(call, shapes, layouts):
    """A linear operation; arrays, such as a class token beside patches, are values that no image changes."""
    arrays = _arrays(call)
    call = call._replace(inputs=[*call.inputs, *map(id, arrays)])
    shapes = [*shapes, *(array.shape for array in arrays)]
    layouts = [*layouts, *(Layout() for _ in arrays)]
    linear = _Moving(call.run, layouts, layout_of_output(call.run, shapes, layouts))
    return [*(Taking(_always(array), (0,)) for array in arrays), Taking(linear, tuple(range(len(layouts))))]


def _always(array):
    """An array of one image, for each."""
    array = tf.cast(array, tf.float32)
    step = Linear(lambda inputs: tf.zeros([tf.shape(inputs)[0], *array.shape[1:]]), offset=array)
    step.layout = Layout()
    return step


def _padded(call, shapes, layouts):
    """A padding by any number; by infinity, as before a maximum, it is one that is small enough for that."""
    if not call.named_argument("constant_values"):
        return _beside_arrays(call, shapes, layouts)
    with_zeros = call.with_argument("constant_values", 0)
    offset = call.run(tf.zeros([1, *shapes[0][1:]]))  # of one image, or of one of its rows
    least = offset.dtype.min / 4
    offset = tf.clip_by_value(offset, least, -least)
    return [_WeightlessImagesApart(with_zeros.run, offset=offset)]


def _with_shape(function, call, shapes, layout):
    """A change of the shape, to that of one image, of which there may be several rows in the batch then."""
    first, *others = call.run(tf.zeros(shapes[0])).shape
    if layout.axis or (first != layout.rows and function is not tf.reshape):
        raise ValueError(f"Expected operations on each image alone. Received {described(call.layer)}, to {others}.")
    rows = [] if first == 1 else [first]
    step = Weightless(lambda inputs: function(inputs, [tf.shape(inputs)[0], *rows, *others]))
    step.layout = Layout(rows=first)
    return step


def _weighted(call):
    """A product of values and arrays of weights."""
    weights = {id(array): tf.convert_to_tensor(array) for array in _arrays(call)}
    sizes = {key: tf.abs(weight) for key, weight in weights.items()}
    function, absolute = (call.given(each).run for each in (weights, sizes))
    summands = max((math.prod(weight.shape) // min(weight.shape) for weight in weights.values()), default=1)
    return _ImagesApart(function, absolute=absolute, summands=summands)


def _matrix_product(call, shapes):
    """Rows of the first value times columns of the second."""
    first, second = shapes
    are_transposed = [bool(call.named_argument(name)) for name in ("transpose_a", "transpose_b")]
    if first.rank != second.rank or first.rank < 3 or len(_options(call)) != sum(are_transposed):
        return None

    def rows(values):
        return (tf.linalg.matrix_transpose(values) if are_transposed[0] else values)[..., tf.newaxis]

    def columns(values):
        return (tf.linalg.matrix_transpose(values) if are_transposed[1] else values)[..., tf.newaxis, :, :]

    return [
        Taking(Weightless(rows), (0,)),
        Taking(Weightless(columns), (1,)),
        Taking(Product(), (-2, -1)),
        Weightless(lambda products: tf.reduce_sum(products, axis=-2)),
    ]


def _keeps_float32(call):
    is_layer = isinstance(call.layer, layers.Layer)  # whose dtype is another thing
    dtype = call.named_argument("dtype") or (None if is_layer else getattr(call.layer, "dtype", None))
    return dtype is None or tf.as_dtype(dtype) == tf.float32


def _axes(call, name, shape):
    """The axes of an option, all of them if it has none, in rising order."""
    axes = _option(call, name)
    axes = sorted(axis % shape.rank for axis in tf.nest.flatten(range(shape.rank) if axes is None else axes))
    if 0 in axes:
        raise ValueError(f"Expected operations on each image alone. Received {described(call.layer)} along axis 0.")
    return axes


def _variance(call, axes_name, shapes):
    """The mean of the squares of what is left of each value without the mean."""
    axes, keeps_axes = _axes(call, axes_name, *shapes), bool(_option(call, "keepdims"))
    mean = Weightless(lambda inputs: tf.reduce_mean(inputs, axes, keepdims=keeps_axes))
    return [centering_step(axes), Square(), mean]


def _norm(call, shapes):
    """The root of the sum of squares."""
    axes, keeps_axes, order = _axes(call, "axis", *shapes), bool(_option(call, "keepdims")), _option(call, "ord")
    if order not in (None, "euclidean") and (order != 2 or len(axes) > 1):  # That of a matrix is another norm.
        return None
    total = Weightless(lambda inputs: tf.reduce_sum(inputs, axes, keepdims=keeps_axes))
    return [Square(), total, square_root()]


def _greatest_along_axes(call, shapes):
    """The greatest of the values along some axes, which come before the last for that."""
    (shape,) = shapes
    if getattr(call.layer, "initial", None) is not None:
        return None
    axes = _axes(call, "axis", shape)
    kept = [axis for axis in range(shape.rank) if axis not in axes]
    count = math.prod(shape[axis] for axis in axes)
    result = call.run(tf.zeros(shape)).shape[1:]

    def windows(inputs):
        values = tf.transpose(inputs, [*kept, *axes])
        return tf.reshape(values, [tf.shape(inputs)[0], *(shape[axis] for axis in kept[1:]), count, 1])

    def ended(inputs):
        return tf.reshape(inputs, [tf.shape(inputs)[0], *result])

    return [MaxPool(windows), Weightless(ended)]


def _max_pooling(call, shapes):
    """Those of the layer for images, by Keras's names of its options, or by TensorFlow's."""
    size, strides = _option(call, "pool_size") or _option(call, "ksize"), _option(call, "strides")
    padding = _option(call, "padding")
    sides = [_sides(size), _sides(strides or size)]
    if shapes[0].rank != 4 or None in sides or not isinstance(padding, str):
        return None
    return steps_of(layers.MaxPooling2D(*sides, padding.lower()))


def _sides(size):
    """Rows and columns of a size that is given for both, for each, or for the batch and the channels as well, as 1."""
    sizes = tf.nest.flatten(size)
    if len(sizes) == 4:
        return tuple(sizes[1:3]) if sizes[0] == sizes[3] == 1 else None
    return tuple(sizes * (2 // len(sizes))) if len(sizes) < 3 else None


def _option(call, name):
    """An option of an operation: one of Keras 3 holds it, one of TensorFlow is called with it."""
    held = getattr(call.layer, name, None)
    return call.named_argument(name) if held is None else held


def _arrays(call):
    """The arrays of numbers among what an operation is called with."""
    return [
        each for each in call.arguments if hasattr(each, "shape") and len(each.shape) and "float" in str(each.dtype)
    ]


def _options(call):
    """All else that it is called with."""
    axis = getattr(call.layer, "axis", None)  # Keras 3's operations hold it themselves.
    options = [*call.arguments, axis]
    return [each for each in options if not (each is None or each is False or isinstance(each, str))]


class _ImagesApart(Linear):
    """A linear operation, of which nobody knows yet that it leaves images of a batch apart."""

    def check(self, shapes: Sequence[Sequence[int]], layer: str) -> None:
        values = [random.uniform([_IMAGES, *shape], (0, 0)) for shape in shapes]
        together = self.value(*values)
        alone = tf.concat([self.value(*(value[row : row + 1] for value in values)) for row in range(_IMAGES)], axis=0)
        if together.shape != alone.shape or not np.allclose(together, alone, rtol=1e-4, atol=1e-6):
            raise ValueError(
                f"Expected operations on each image alone. Received {layer}, which mixes those of a batch."
            )
        super().check(shapes, layer)


class _WeightlessImagesApart(_ImagesApart, Weightless):
    """One without weights."""


class _Moving(_WeightlessImagesApart):
    """One that takes values of any layouts, and may give one of another."""

    def __init__(self, function: Callable[..., tf.Tensor], layouts: Sequence[Layout], layout: Layout):
        super().__init__(lambda *inputs: layout.inner(function(*map(Layout.outer, layouts, inputs))))
        self.layout = layout

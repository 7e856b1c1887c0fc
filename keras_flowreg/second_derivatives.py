"""How a model runs while its gradient is going to be differentiated: with second derivatives that are exact, and quick.

TensorFlow's own are not always. `tf.nn.moments` and the fused batch normalization hold the mean fixed in the variance, which
is right for the first derivative only. Resizing has none. Those of max pooling, batch normalization and convolutions in
groups are slow.

So in the scope `exact_second_derivatives` a few operations of TensorFlow, and layers of Keras, run as their counterparts
in `ops`. Values and first derivatives stay what they are, and so do the model, its layers and its weights. Outside of the
scope, and in other threads, everything runs as always.
"""

import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.ops import normalization, pooling, resizing

_is_exact = contextvars.ContextVar("exact_second_derivatives", default=False)
_lock = threading.Lock()


@contextlib.contextmanager
def exact_second_derivatives() -> Iterator[None]:
    """Models that are called in this scope, by this thread, have exact second derivatives.

    ```python
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner, fr.exact_second_derivatives():
            inner.watch(inputs := tf.constant(images))
            loss = tf.reduce_sum(model(inputs, training=True) ** 2)
        penalty = tf.reduce_sum(inner.gradient(loss, inputs) ** 2)
    derivatives = outer.gradient(penalty, model.trainable_variables)
    ```

    They are exact for every layer that Keras ships, and for layers of your own that are made of TensorFlow's or Keras's
    operations, `tf.nn.moments` among them. `checks.second_derivative` tries a model.
    """
    with _lock:
        _install()
    token = _is_exact.set(True)
    try:
        yield
    finally:
        _is_exact.reset(token)


@functools.cache
def _install():
    """Puts each counterpart beside its original, once for the whole process."""
    for owner, name, counterpart in (*_operations(), *_LAYERS):
        setattr(owner, name, _either(getattr(owner, name), counterpart))
    with contextlib.suppress(KeyError):  # A newer TensorFlow may have it.
        tf.RegisterGradient("SoftsignGrad")(_softsign_second_derivatives)


def _either(original: Callable, counterpart: Callable) -> Callable:
    """The original, and in the scope its counterpart, which is given the original to fall back on."""

    @functools.wraps(original)
    def call(*args, **kwargs):
        if not _is_exact.get():
            return original(*args, **kwargs)
        return counterpart(original, *args, **kwargs)

    # Keras reads a layer's signature.
    call.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return call


def _operations():
    """Functions of TensorFlow that its own modules, and Keras, look up by name at each call."""
    nn, nn_operations, image_operations = compat.operation_modules()
    return (
        (nn, "moments", _moments),
        (nn_operations, "max_pool", _max_pool),
        (nn_operations, "fused_batch_norm_v3", _fused_batch_norm),
        (image_operations, "resize_bilinear", _resized(resizing.bilinear)),
        (image_operations, "resize_bicubic", _resized(resizing.bicubic)),
        (image_operations, "resize_nearest_neighbor", _resized(resizing.nearest)),
    )


def _softsign_second_derivatives(operation, upstream):
    """Of u / (1 + |x|)², with respect to u and x."""
    outer, features = operation.inputs
    size = 1 + tf.abs(features)
    return upstream / size**2, -2 * upstream * outer * tf.sign(features) / size**3


def _moments(original, x, axes, shift=None, name=None, keep_dims=None, keepdims=None):
    return normalization.moments(tf.convert_to_tensor(x), axes, bool(keepdims or keep_dims))


def _max_pool(original, input, ksize, strides, padding, explicit_paddings=(), data_format="NHWC", name=None):
    sizes = [list(ksize), list(strides)]
    is_plain = (
        data_format == "NHWC" and padding in ("VALID", "SAME") and all(sides[0] == sides[3] == 1 for sides in sizes)
    )
    if not is_plain or not input.dtype.is_floating:
        return original(input, ksize, strides, padding, explicit_paddings, data_format, name)
    return pooling.max_pool(input, ksize[1:3], strides[1:3], padding)


def _resized(counterpart):
    def resize(original, images, size, align_corners=False, half_pixel_centers=False, name=None):
        images = tf.convert_to_tensor(images)
        if not images.dtype.is_floating:
            return original(images, size, align_corners, half_pixel_centers, name)
        return counterpart(images, size, align_corners=align_corners, half_pixel_centers=half_pixel_centers)

    return resize


def _fused_batch_norm(
    original,
    x,
    scale,
    offset,
    mean,
    variance,
    epsilon=1e-4,
    exponential_avg_factor=1.0,
    data_format="NHWC",
    is_training=True,
    name=None,
):
    """The fused operation in parts, where no layer below has taken its place. Its last three outputs are not for users."""
    channels = data_format.index("C")
    axes = [axis for axis in range(x.shape.rank) if axis != channels]
    wide = tf.cast(x, scale.dtype)
    if is_training:
        used_mean, used_variance = normalization.moments(wide, axes)
        new = [used_mean, used_variance * tf.cast(_unbiased(tf.size(x) // tf.size(scale)), scale.dtype)]
        if exponential_avg_factor != 1.0:
            kept = 1 - exponential_avg_factor
            new = [kept * old + exponential_avg_factor * value for old, value in zip((mean, variance), new)]
    else:
        used_mean, used_variance = new = [mean, variance]
    shape = [-1 if axis == channels else 1 for axis in range(x.shape.rank)]
    parts = (tf.reshape(part, shape) for part in (used_mean, used_variance, offset, scale))
    output = tf.cast(tf.nn.batch_normalization(wide, *parts, epsilon), x.dtype)
    return output, *map(tf.stop_gradient, new), used_mean, used_variance, used_variance


def _batch_normalization(original, layer, inputs, training=None, mask=None):
    """Keras's layer with both derivatives in closed form, made of fused operations."""
    if mask is not None or not _is_plain_batch_normalization(layer, inputs, training):
        return original(layer, inputs, training=training, mask=mask)
    size = tf.shape(layer.moving_mean)
    output, mean, variance = normalization.batch_normalization(
        tf.cast(inputs, layer.compute_dtype),
        tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones(size),
        tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros(size),
        layer.epsilon,
    )
    if getattr(layer, "fused", False):
        variance *= _unbiased(tf.size(inputs) // tf.size(variance))  # what Keras 2's fused operation keeps
    # A replica may get no examples of a last batch: it has no statistics.
    change = tf.where(tf.size(inputs) > 0, 1.0 - layer.momentum, 0.0)
    for moving, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign_sub((tf.convert_to_tensor(moving) - new) * change)
    return output


def _unbiased(count):
    """The factor that makes the variance of a number of values unbiased."""
    count = tf.cast(count, tf.float32)
    return count / tf.maximum(count - 1, 1)


def _is_plain_batch_normalization(layer, inputs, training):
    """Whether the layer trains, on the last axis, in float32 or half precision, and by its own batch alone."""
    trains = isinstance(training, (bool, int)) and training and layer.trainable
    last = tf.nest.flatten(layer.axis) in ([-1], [inputs.shape.rank - 1])
    numbers = layer.variable_dtype == "float32" and layer.epsilon >= normalization.SMALLEST_EPSILON
    numbers &= layer.compute_dtype != "float64"
    special = (getattr(layer, name, None) for name in ("synchronized", "renorm", "virtual_batch_size"))
    return trains and last and numbers and not any(special)


def _convolution(original, layer, inputs):
    """Keras's layer with a channel a group as a depthwise convolution, which a CPU does many times as fast."""
    if not _is_depthwise(layer, inputs):
        return original(layer, inputs)
    kernel = tf.cast(tf.convert_to_tensor(layer.kernel), inputs.dtype)
    kernel = tf.reshape(kernel, [*layer.kernel_size, layer.groups, layer.filters // layer.groups])
    strides = [1, *layer.strides, 1]
    outputs = tf.nn.depthwise_conv2d(inputs, kernel, strides, layer.padding.upper(), dilations=layer.dilation_rate)
    if layer.use_bias:
        outputs += tf.cast(tf.convert_to_tensor(layer.bias), outputs.dtype)
    return outputs if layer.activation is None else layer.activation(outputs)


def _is_depthwise(layer, inputs):
    """Whether each group has one channel, and the depthwise operation can do what the layer asks for."""
    one_channel = layer.groups == inputs.shape[-1] > 1 and inputs.shape.rank == 4
    plain = layer.data_format == "channels_last" and layer.padding in ("same", "valid")
    vertical, horizontal = layer.strides
    steps = vertical == horizontal and (vertical == 1 or tuple(layer.dilation_rate) == (1, 1))
    is_kerass = type(layer).convolution_op is keras.layers.Conv2D.convolution_op  # and not one of a subclass
    return one_channel and plain and steps and is_kerass


def _layer_normalization(original, layer, inputs):
    """Keras's layer with both derivatives in closed form."""
    if not tf.is_tensor(inputs) or getattr(layer, "rms_scaling", False):
        return original(layer, inputs)
    axes = sorted(axis % inputs.shape.rank for axis in tf.nest.flatten(layer.axis))
    shape = [inputs.shape[axis] if axis in axes else 1 for axis in range(inputs.shape.rank)]
    return _scaled(layer, normalization.standardize(_wide(inputs), axes, layer.epsilon), shape)


def _group_normalization(original, layer, inputs, **options):
    """Keras's layer with both derivatives in closed form."""
    rank = inputs.shape.rank
    if layer.axis not in (-1, rank - 1) or any(value is not None for value in options.values()):
        return original(layer, inputs, **options)
    groups = [layer.groups, inputs.shape[-1] // layer.groups]
    grouped = tf.reshape(_wide(inputs), tf.concat([tf.shape(inputs)[:-1], groups], 0))
    axes = [axis for axis in range(1, rank + 1) if axis != rank - 1]
    standardized = tf.reshape(normalization.standardize(grouped, axes, layer.epsilon), tf.shape(inputs))
    return _scaled(layer, tf.ensure_shape(standardized, inputs.shape), [inputs.shape[-1]])


def _wide(inputs):
    return inputs if inputs.dtype == tf.float64 else tf.cast(inputs, tf.float32)


def _scaled(layer, standardized, shape):
    """γ times a standardized input, plus β, in the layer's compute dtype."""
    if layer.scale:
        standardized *= tf.cast(tf.reshape(tf.convert_to_tensor(layer.gamma), shape), standardized.dtype)
    if layer.center:
        standardized += tf.cast(tf.reshape(tf.convert_to_tensor(layer.beta), shape), standardized.dtype)
    return tf.cast(standardized, layer.compute_dtype)


_LAYERS = (
    (keras.layers.BatchNormalization, "call", _batch_normalization),
    (keras.layers.LayerNormalization, "call", _layer_normalization),
    (keras.layers.GroupNormalization, "call", _group_normalization),
    (keras.layers.Conv2D, "call", _convolution),
)

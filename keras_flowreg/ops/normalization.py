"""Normalization whose first and second derivatives are in closed form.

With x̂ = (x - μ) / σ, per channel, y = γ x̂ + β, and N values of a channel, the derivative for an upstream g is

    ∂/∂x = γ/σ · P g,  P g = g - mean(g) - x̂ mean(g x̂);    ∂/∂γ = Σ g x̂;    ∂/∂β = Σ g

and P is symmetric. So Σ v · ∂/∂x, for an upstream v of that derivative, has in turn the derivatives

    with respect to g:  γ/σ · P v                              (the same operation again)
    with respect to γ:  S/σ,  S = Σ v · P g = Σ v g - N mean(v) mean(g) - N mean(v x̂) mean(g x̂)
    with respect to x:  -γ/σ² · (x̂ S/N + mean(g x̂) P v + mean(v x̂) P g)

All but the sum of v g comes out of TensorFlow's fused operations. TensorFlow itself differentiates the fused first
derivative by computing it again in parts (tensorflow/tensorflow#22080).
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from keras_flowreg.types import Scalar

SMALLEST_EPSILON = 1.001e-5  # cuDNN's


class _Batch(NamedTuple):
    """What the derivatives need to know of a normalized batch."""

    epsilon: float
    count: Scalar  # N, float32
    mean: tf.Tensor  # μ, float32 `[channels]`
    inverse_deviation: tf.Tensor  # 1/σ, float32 `[channels]`
    saved: tuple  # what the fused operation keeps for its derivative


def moments(values: tf.Tensor, axes: Sequence[int], keepdims: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """The mean and the (biased) variance over some axes. All derivatives are right.

    Args:
      values: a floating tensor. Half precision is computed in float32.
      axes: the axes to take them over.
      keepdims: whether these axes stay, with length 1.

    Returns:
      `(mean, variance)`, in the dtype of the values.
    """
    wide = tf.cast(values, tf.float32) if values.dtype in (tf.float16, tf.bfloat16) else values
    mean = tf.reduce_mean(wide, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(wide, mean), axes, keepdims=keepdims)
    mean = mean if keepdims else tf.reshape(mean, tf.shape(variance))
    return tf.cast(mean, values.dtype), tf.cast(variance, values.dtype)


def standardize(values: tf.Tensor, axes: Sequence[int], epsilon: float) -> tf.Tensor:
    """(values - mean) / sqrt(variance + ε) over some axes, as layer and group normalization have it.

    Args:
      values: float32 or float64.
      axes: the axes that share a mean and a variance.
      epsilon: what is added to the variance.

    Returns:
      A tensor of the shape of the values. A third derivative of it is an error.

    Reference: Ba, Kiros and Hinton, "Layer normalization", 2016.
    """

    def mean(terms):
        return tf.reduce_mean(terms, axes, keepdims=True)

    @tf.custom_gradient
    def standardized(values):
        centred = values - mean(values)
        inverse_deviation = tf.math.rsqrt(mean(tf.square(centred)) + epsilon)
        output = centred * inverse_deviation

        def of_upstream(upstream):
            """1/σ · P upstream."""
            return inverse_deviation * (upstream - mean(upstream) - output * mean(upstream * output))

        @tf.custom_gradient
        def differentiate(upstream, values):
            derivative = of_upstream(upstream)

            def gradient(second):
                again = of_upstream(second)
                curvature = output * mean(second * derivative)
                curvature += mean(upstream * output) * again + mean(second * output) * derivative
                return _last(again), _last(-inverse_deviation * curvature)

            return derivative, gradient

        return output, lambda upstream: differentiate(upstream, values)

    return standardized(values)


def batch_normalization(
    inputs: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float = 1e-3
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalizes a batch by its own statistics, channel by channel.

    The derivatives are those of autodifferentiation. A third derivative is an error.

    Args:
      inputs: float32, float16 or bfloat16 `[batch, ..., channels]`.
      scale: float32 `[channels]`, γ.
      offset: float32 `[channels]`, β.
      epsilon: what is added to the variance, at least `SMALLEST_EPSILON`.

    Returns:
      `(output, mean, variance)`: the output has the shape and dtype of `inputs`; the statistics are float32 `[channels]`,
      and have no derivative. The variance is biased, like Keras's moving variance. Both are 0 for an empty batch.

    Reference: Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", 2015.
    """
    shape = tf.shape(inputs)
    images = tf.reshape(inputs, [shape[0], tf.reduce_prod(shape[1:-1]), 1, inputs.shape[-1]])
    output, mean, variance = _normalize(images, scale, offset, epsilon)
    return tf.reshape(output, shape), tf.stop_gradient(mean), tf.stop_gradient(variance)


def _normalize(inputs, scale, offset, epsilon):
    """`batch_normalization` of `[batch, height, width, channels]`."""

    @tf.custom_gradient
    def normalize(inputs, scale, offset):
        output, mean, variance, *saved = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon
        )
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        unbiased = tf.maximum(count - 1, 1)
        # Of no values they are NaN, or were not written to.
        mean = tf.where(count > 0, mean, tf.zeros_like(mean))
        variance = tf.where(count > 0, variance * unbiased / tf.maximum(count, 1), tf.zeros_like(variance))
        batch = _Batch(epsilon, count, mean, tf.math.rsqrt(variance + epsilon), tuple(saved))

        def gradient(upstream, *of_statistics):
            return _differentiate(upstream, inputs, scale, batch)

        return (output, mean, variance), gradient

    return normalize(inputs, scale, offset)


def _differentiate(upstream, inputs, scale, batch):
    """The derivatives of Σ upstream · output with respect to inputs, scale and offset."""
    of_inputs, of_scale, of_offset, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=upstream,
        x=inputs,
        scale=scale,
        reserve_space_1=batch.saved[0],
        reserve_space_2=batch.saved[1],
        reserve_space_3=batch.saved[2],
        epsilon=batch.epsilon,
    )

    @tf.custom_gradient
    def differentiate_inputs(upstream, inputs, scale):
        def gradient(second):
            return _differentiate_twice(second, upstream, inputs, scale, (of_inputs, of_scale, of_offset), batch)

        return tf.identity(of_inputs), gradient

    # Apart from the inputs: a gradient penalty never differentiates these.
    @tf.custom_gradient
    def differentiate_parameters(upstream, inputs):
        def gradient(second_of_scale, second_of_offset):
            return (
                _normalize(inputs, second_of_scale, second_of_offset, batch.epsilon)[0],
                _differentiate(upstream, inputs, second_of_scale, batch)[0],
            )

        return (tf.identity(of_scale), tf.identity(of_offset)), gradient

    return differentiate_inputs(upstream, inputs, scale), *differentiate_parameters(upstream, inputs)


def _differentiate_twice(second, upstream, inputs, scale, first, batch):
    """The derivatives of Σ second · γ/σ P upstream with respect to upstream, inputs and scale.

    `first` has the derivatives for `upstream`.
    """
    of_inputs, of_scale, of_offset = first
    again, again_scale, again_offset = _differentiate(second, inputs, scale, batch)
    values, second_values = tf.cast(upstream, tf.float32), tf.cast(second, tf.float32)
    count = tf.maximum(batch.count, 1)
    projected = tf.reduce_sum(second_values * values, axis=[0, 1, 2])
    projected -= (again_offset * of_offset + again_scale * of_scale) / count
    slope = -scale * projected * batch.inverse_deviation**3 / count
    of_inputs_again = slope * (tf.cast(inputs, tf.float32) - batch.mean)
    of_inputs_again -= of_scale * batch.inverse_deviation / count * tf.cast(again, tf.float32)
    of_inputs_again -= again_scale * batch.inverse_deviation / count * tf.cast(of_inputs, tf.float32)
    return (
        again,
        _last(tf.cast(of_inputs_again, inputs.dtype)),
        _last(projected * batch.inverse_deviation),
    )


def _last(derivative):
    message = "Expected at most two derivatives of a batch normalization."
    return tf.raw_ops.PreventGradient(input=derivative, message=message)

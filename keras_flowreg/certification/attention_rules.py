"""The rule for attention: products of queries and keys, their softmax, and the mean of values by it.

Axes: b examples, t places that ask, s places that are asked, n heads, and the numbers that a head has of each.
"""

import math

import tensorflow as tf
from keras import layers

from keras_flowreg.certification.linear_rules import Averaging
from keras_flowreg.certification.normalization_rules import centering_step
from keras_flowreg.certification.products import Product
from keras_flowreg.certification.rules import described, register_rule
from keras_flowreg.certification.softmax import Softmax
from keras_flowreg.certification.steps import Linear, Taking


@register_rule(layers.MultiHeadAttention)
def _multi_head_attention(layer):
    if tuple(layer._attention_axes) != (1,) or len(layer._output_dense.kernel.shape) != 3:
        raise ValueError(
            "Expected attention along one axis, of [batch, places, channels]. "
            f"Received {described(layer)} along {layer._attention_axes}, or with an output of more axes."
        )
    if getattr(layer, "_use_gate", False) or getattr(layer, "_sliding_window", None):
        raise ValueError(f"Expected attention without a gate or a window. Received {described(layer)} with one.")
    size = layer._query_dense.kernel.shape[-1]

    def queries(parts):
        return parts[:, :, tf.newaxis, :, :size]

    def keys(parts):
        return parts[:, tf.newaxis, ..., size : 2 * size]

    def values(parts):
        return tf.einsum("bsnd->bnsd", parts[..., 2 * size :])[:, tf.newaxis]

    return [
        _projection(layer),
        Linear(queries, offset=_bias(layer._query_dense, _scale(layer))),
        Taking(Linear(keys, offset=_bias(layer._key_dense)), (-2,)),
        Taking(Product(), (-2, -1)),
        Linear(lambda products: tf.einsum("btsnd->btns", products), summands=size),
        Softmax(),
        Linear(lambda weights: weights[..., tf.newaxis]),
        Taking(Linear(values), (-7,)),  # of the projection
        centering_step([3]),
        Taking(Product(), (-3, -1)),  # of weights and centered values
        Taking(_output(layer), (-1, -3)),  # of these products and the values
    ]


def _projection(layer):
    """The step to queries, keys and values, side by side, but for what is added to them."""
    query, key, value = (
        tf.convert_to_tensor(dense.kernel) for dense in (layer._query_dense, layer._key_dense, layer._value_dense)
    )

    def project(query, key, value):
        def projected(asking, asked, keys=None):
            if asking.shape[1] != asked.shape[1]:
                raise ValueError(
                    "Expected attention among places of one number. "
                    f"Received {asking.shape[1]} and {asked.shape[1]} in {described(layer)}."
                )
            pairs = ((asking, query), (asked if keys is None else keys, key), (asked, value))
            return tf.concat([tf.tensordot(inputs, kernel, 1) for inputs, kernel in pairs], axis=-1)

        return projected

    kernels = (query * _scale(layer), key, value)
    outputs = sum(math.prod(kernel.shape[1:]) for kernel in kernels)
    summands = max(outputs, *(kernel.shape[0] for kernel in kernels))
    return Linear(project(*kernels), absolute=project(*map(tf.abs, kernels)), summands=summands)


def _output(layer):
    """The step that adds up the values without their mean, each times its weight, and their mean, and projects the sum.

    The weights add up to 1. So what is added to each value is added to the sum, and comes last, as the mean does: it needs
    no bounds of the weights.
    """
    kernel = tf.convert_to_tensor(layer._output_dense.kernel)

    def project(kernel):
        def projected(products, values):
            means = tf.reduce_mean(values, axis=3)
            return tf.einsum("btnd,ndo->bto", tf.reduce_sum(products, axis=3) + means, kernel)

        return projected

    offset = _bias(layer._output_dense)
    if offset is not None:
        offset += tf.einsum("nd,ndo->o", _bias(layer._value_dense), kernel)
    axes, outputs = [2, 3, 4], kernel.shape[-1]
    return Averaging(project(kernel), axes, absolute=project(tf.abs(kernel)), offset=offset, summands=outputs)


def _scale(layer):
    return layer._query_dense.kernel.shape[-1] ** -0.5


def _bias(dense, scale=1.0):
    return None if dense.bias is None else scale * tf.convert_to_tensor(dense.bias)

"""Steps: the operations that a network is made of, and what each does to bounds.

A step takes intervals forward (`interval`), and takes a linear form of its output backward to linear forms of its inputs
that are nowhere greater (`backward`):

    Σ coefficients · output ≥ Σ_k Σ parts[k] · input_k + constant,    for all inputs in their intervals

What `backward` needs of the intervals, such as the slopes of lines, `relax` computes once for each example. Every tensor has
the batch on its first axis. Coefficients have queries there, of which each is about one example.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional, Union

import tensorflow as tf

from keras_flowreg.certification.envelopes import expect_enclosed
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.layouts import Layout
from keras_flowreg.certification.linearity import expect_linear, expect_transposed
from keras_flowreg.certification.rounding import summands_by_shape, weight_of
from keras_flowreg.certification.windows import Sliding

Relaxation = tuple[tf.Tensor, ...]
Backward = tuple[list[tf.Tensor], Optional[tf.Tensor]]  # parts, and terms of the constant or None: [queries, ...]


class Step:
    """One operation of a network. A subclass says what it does to bounds.

    ```python
    step: fr.certification.Step = fr.certification.Linear(tf.identity)
    print(step.interval(fr.certification.Interval(images, images)).low.shape)
    ```

    Attributes:
      is_linear: whether the output is linear in the inputs, but for a constant.
      has_statistics: whether it is another step in training, by the statistics of the batch.
      sliding: how it slides over images, if each output sees a few pixels only; `None` if it may see all.
      keeps_class: whether it leaves the class of predictions as it is. A last step that does is not bounded.
      layout: where its output has the batch, of a step that takes values of any layout; `None` where its inputs have it.
    """

    is_linear = False
    sliding: Optional[Sliding] = None
    keeps_class = False
    has_statistics = False
    layout: Optional[Layout] = None

    def interval(self, *inputs: Interval) -> Interval:
        """The interval of the output."""
        raise NotImplementedError

    def value(self, *inputs: tf.Tensor) -> tf.Tensor:
        """The output itself."""
        return self.interval(*(Interval(value, value) for value in inputs)).low

    def terms(self, *sizes: tf.Tensor) -> Optional[tf.Tensor]:
        """The sum of the absolute terms of each output, in parts of which it is rounded, or `None` if it is not a sum.

        Of sums of many terms it is more, as `weight_of` says.

        Args:
          *sizes: the absolute values of the inputs, at most.
        """
        return None

    def check(self, shapes: Sequence[Sequence[int]], layer: str) -> None:
        """Checks, as far as that can be seen, that the step is what its class says.

        Args:
          shapes: of each input, without the batch.
          layer: whose step it is.

        Raises:
          ValueError: if it is not.
        """

    def in_training(self, *inputs: tf.Tensor) -> "Step":
        """The step that the layer takes in training, on a batch of these inputs."""
        return self

    def relax(self, *inputs: Interval) -> Relaxation:
        """What `backward` needs of the intervals: tensors `[batch, ...]`."""
        return ()

    def backward(self, coefficients: tf.Tensor, shapes: Sequence[Sequence[int]], relaxation: Relaxation) -> Backward:
        """The linear forms of the inputs.

        Args:
          coefficients: `[queries, ...]`. Of a step that slides they may be those of a part of the output.
          shapes: of each input, without the batch; of a step that slides, of what these outputs see, the padding included.
          relaxation: what `relax` gave, for each query: tensors `[queries, ...]`.

        Returns:
          `(parts, terms)`: for each input, `[queries, ...]`; and `[queries, ...]`, whose sum is the constant, or `None`.
        """
        raise NotImplementedError

    def is_loose(self, inputs: Interval) -> tf.Tensor:
        """For which input values a tighter interval would help: bool, of the shape of the input."""
        return inputs.low < inputs.high


class Taking(NamedTuple):
    """A step that takes other values of its layer than what the step before gives.

    ```python
    class Gate(keras.layers.Layer):
        def call(self, inputs):
            return inputs * tf.sigmoid(inputs)


    @fr.certification.register_rule(Gate)
    def _gate(layer):
        return [fr.certification.Sigmoid(), fr.certification.Taking(fr.certification.Product(), (0, 1))]
    ```

    Attributes:
      step: the step.
      values: their numbers: the layer's inputs from 0, behind them what each step gives; negative ones from the last.
    """

    step: Step
    values: tuple[int, ...]


class Linear(Step):
    """A linear function of the inputs, plus an offset.

    ```python
    @fr.certification.register_rule(keras.layers.RepeatVector)  # For a layer that only copies values.
    def _repeated(layer):
        return [fr.certification.Linear(layer)]
    ```

    Args:
      function: the linear part, a function of one tensor for each input.
      absolute: the same function, with the absolute value of each weight; `None` if no weight is negative.
      offset: what is added: a number or a tensor.
      summands: how many inputs an output is the sum of, or outputs an input goes into, at most, where that is more than their
        shapes say. So many roundings may add up.
      sliding: how the function slides over images; see `Step`.
      transpose: the transposed map, a function of coefficients `[queries, ...]` and of the inputs' shapes, which returns a
        list; `None` to differentiate `function`.
    """

    is_linear = True

    def __init__(
        self,
        function: Callable[..., tf.Tensor],
        *,
        absolute: Optional[Callable[..., tf.Tensor]] = None,
        offset: Union[tf.Tensor, float, None] = None,
        summands: int = 1,
        sliding: Optional[Sliding] = None,
        transpose: Optional[Callable[..., list[tf.Tensor]]] = None,
    ):
        self._function = function
        self._absolute = absolute
        self._offset = offset
        self._summands = summands
        self.sliding = sliding
        self._transpose = transpose or self._differentiate

    def interval(self, *inputs: Interval) -> Interval:
        if self._absolute is None:
            low, high = (self._function(*ends) for ends in zip(*inputs))
        else:
            center = self._function(*(part.center for part in inputs))
            radius = self._absolute(*(part.radius for part in inputs))
            low, high = center - radius, center + radius
        return Interval(low, high) if self._offset is None else Interval(low + self._offset, high + self._offset)

    def terms(self, *sizes: tf.Tensor) -> tf.Tensor:
        terms = (self._absolute or self._function)(*sizes)
        offset = tf.zeros_like(terms) if self._offset is None else tf.abs(self._offset)  # which may repeat them
        return weight_of(self.summands(sizes, terms + offset)) * terms + offset

    def summands(self, inputs: Sequence[tf.Tensor], output: tf.Tensor) -> int:
        """How many inputs an output is the sum of, or outputs an input goes into, at most."""
        return max(self._summands, summands_by_shape(inputs, output))

    def check(self, shapes: Sequence[Sequence[int]], layer: str) -> None:
        absolute = self._absolute or self._function
        expect_linear(self._function, absolute, shapes, layer)
        expect_transposed(self._function, absolute, self._transpose, shapes, self.sliding, layer)

    def value(self, *inputs: tf.Tensor) -> tf.Tensor:
        output = self._function(*inputs)
        return output if self._offset is None else output + self._offset

    def backward(self, coefficients: tf.Tensor, shapes: Sequence[Sequence[int]], relaxation: Relaxation) -> Backward:
        terms = None if self._offset is None else coefficients * self._offset
        return self._transpose(coefficients, shapes), terms

    def _differentiate(self, coefficients, shapes):
        inputs = [tf.zeros([tf.shape(coefficients)[0], *shape], coefficients.dtype) for shape in shapes]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = self._function(*inputs)
        return tape.gradient(output, inputs, coefficients, unconnected_gradients="zero")


class Elementwise(Step):
    """A function of each value on its own, between two lines. A subclass gives its interval and the lines.

    ```python
    class Absolute(fr.certification.Elementwise):
        def interval(self, inputs):
            low, high = tf.abs(inputs.low), tf.abs(inputs.high)
            holds_zero = (inputs.low < 0) & (inputs.high > 0)
            return fr.certification.Interval(tf.where(holds_zero, 0.0, tf.minimum(low, high)), tf.maximum(low, high))

        def relax(self, inputs):  # Constant lines.
            low, high = self.interval(inputs)
            return tf.zeros_like(low), low, tf.zeros_like(high), high
    ```
    """

    sliding = Sliding()

    def check(self, shapes: Sequence[Sequence[int]], layer: str) -> None:
        expect_enclosed(self.value, self.interval, self.relax, shapes[0], layer)

    def split_point(self, inputs: Interval) -> tf.Tensor:
        """Where intervals are best cut in two, so that lines come nearer to the function; the middle by default."""
        return inputs.center

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        """`(slope, intercept)` of a line below the function on the interval, and of one above it."""
        raise NotImplementedError

    def backward(self, coefficients: tf.Tensor, shapes: Sequence[Sequence[int]], relaxation: Relaxation) -> Backward:
        low_slope, low_intercept, high_slope, high_intercept = relaxation
        positive = tf.nn.relu(coefficients)
        negative = coefficients - positive
        part = positive * low_slope + negative * high_slope
        return [part], positive * low_intercept + negative * high_intercept


class MaxPool(Step):
    """The greatest value of each window.

    The window's value with the greatest middle lies below the maximum. Above it lies max(x, m), where x is the value that can
    be greatest, and m the greatest that the others can be; and above that its chord.

    ```python
    step = fr.certification.MaxPool(lambda images: tf.reshape(images, [len(images), 1, 80, 2]))  # of 8x10 pixels
    print(step.interval(fr.certification.Interval(tf.constant(images), tf.constant(images))).high.shape)
    ```

    Args:
      windows: a function of images `[batch, height, width, channels]` to the values of their windows, `[batch, ..., values,
        channels]`.
      sliding: how the windows slide over an image, which is padded before; see `Step`.
    """

    def __init__(self, windows: Callable[[tf.Tensor], tf.Tensor], sliding: Optional[Sliding] = None):
        self._windows = windows
        self.sliding = sliding

    def interval(self, inputs: Interval) -> Interval:  # type: ignore[override]
        return Interval(*(tf.reduce_max(self._values(end, end.dtype.min), axis=-2) for end in inputs))

    def relax(self, inputs: Interval) -> Relaxation:  # type: ignore[override]
        outside = tf.constant(inputs.low.dtype.min / 4, inputs.low.dtype)
        low, high = (self._values(end, outside) for end in inputs)
        is_below, is_greatest = (_marked_greatest(values) for values in (low + high, high))
        least = tf.reduce_sum(is_greatest * low, axis=-2)
        greatest = tf.reduce_max(high, axis=-2)
        others = tf.reduce_max(tf.where(is_greatest > 0, outside, high), axis=-2)
        start = tf.maximum(others, least)  # The chord's height at the left end.
        slope = tf.where(greatest > least, tf.math.divide_no_nan(greatest - start, greatest - least), 1)
        return is_below, is_greatest * slope[..., tf.newaxis, :], start - slope * least

    def backward(self, coefficients: tf.Tensor, shapes: Sequence[Sequence[int]], relaxation: Relaxation) -> Backward:
        is_below, high_slope, high_intercept = relaxation
        positive = tf.nn.relu(coefficients)
        negative = coefficients - positive
        inputs = tf.zeros([tf.shape(coefficients)[0], *shapes[0]], coefficients.dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            values = self._windows(inputs)
        of_values = positive[..., tf.newaxis, :] * is_below + negative[..., tf.newaxis, :] * high_slope
        return [tape.gradient(values, inputs, of_values)], negative * high_intercept

    def _values(self, images, outside):
        """The values of all windows of images, and what lies outside of them."""
        if self.sliding is None:
            return self._windows(images)
        paddings = [(0, 0), *self.sliding.paddings(images.shape[1:3]), (0, 0)]
        return self._windows(tf.pad(images, paddings, constant_values=outside))


def _marked_greatest(values):
    """1 for the greatest on the last axis but one, the first of them; 0 for the others."""
    axis = values.shape.rank - 2
    return tf.one_hot(tf.argmax(values, axis), values.shape[axis], axis=axis, dtype=values.dtype)

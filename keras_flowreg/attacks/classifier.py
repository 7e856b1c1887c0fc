"""What a search may ask of a model: its predictions, and their gradients with respect to images.

In a user's graph the model is called where it is asked. Outside of one it is traced once for each kind of batch, and
every search of every attack calls what came of that.
"""

import collections
import math
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

from keras_flowreg.attacks.raised_loss import RaisedLoss
from keras_flowreg.gradients import gradient_through, widened
from keras_flowreg.ops.matching import expect_one_output
from keras_flowreg.ops.signatures import spec_of_any_batch
from keras_flowreg.types import Images, KerasModel, Labels, Number, Predictions

# What is measured of predictions: each a [batch].
Measure = Callable[[Predictions], Sequence[tf.Tensor]]

_NO_GRADIENT = (
    "Expected a model whose predictions can be differentiated with respect to its images. Received one that cannot be: it "
    "may round, cast to integers, decode JPEG or call Python on the way."
)
_NO_GRADIENT_OF_LOSS = (
    "Expected a loss that can be differentiated with respect to predictions. Received one that cannot be: it may round, "
    "compare, or count errors."
)
_PROBED = 8  # images that tell whether a model has a gradient
# Compiled functions that are kept for each kind of batch, the latest ones.
_KEPT_FUNCTIONS = 48


class _NoGradientError(ValueError):
    """No gradient of the predictions reaches the images, or none of the loss the predictions."""


class Classifier:
    """A model in inference mode, called directly.

    Args:
      model: a Keras model, images to predictions.
    """

    # Nothing is computed while a graph is built: a missing gradient is an error then.
    has_gradient = True

    def __init__(self, model: KerasModel):
        self._model = model

    @property
    def is_compact(self) -> bool:
        """Whether examples may leave the model's batch while it is searched."""
        # Whoever compiles the graph may do so with XLA, which cannot leave examples out of a batch.
        return False

    def predict(self, images: Images) -> Predictions:
        """The predictions, `[batch, classes]`."""
        return self._call(images)

    def classes(self, images: Images) -> Optional[int]:
        """The number of classes, if it is known."""
        return self.predict(images).shape[1]

    def differentiate(self, images: Images, measure: Measure) -> tuple[Predictions, list[tf.Tensor]]:
        """The predictions, and the gradient of each number that is measured of them."""
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(images)
            predictions = self._call(images)
            wide = widened(predictions, images)
            measured = measure(wide)
        try:
            gradients = [gradient_through(self._model, tape, values, wide, images) for values in measured]
        except LookupError as error:
            raise _NoGradientError(_NO_GRADIENT) from error
        if any(gradient is None for gradient in gradients):
            raise _NoGradientError(_NO_GRADIENT if tape.gradient(measured, wide) is not None else _NO_GRADIENT_OF_LOSS)
        return predictions, gradients

    def differentiate_loss(
        self, images: Images, labels: Labels, raised: RaisedLoss, scale: Number = 1.0
    ) -> tuple[Predictions, tf.Tensor]:
        """The predictions, and the gradient of a `RaisedLoss`, times a number."""

        def measure(predictions):
            losses = raised(labels, predictions)
            return [tf.cast(scale, losses.dtype) * losses]

        predictions, (gradient,) = self.differentiate(images, measure)
        return predictions, gradient

    def run(self, key: Any, function: Callable, *tensors: tf.Tensor) -> Any:
        """`function(*tensors)`; a `TracedClassifier` compiles it, once for each key."""
        return function(*tensors)

    def _call(self, images):
        return self._model(images, training=False)


class TracedClassifier(Classifier):
    """A model in inference mode, traced once for images of one kind, in batches of any size.

    Its forward pass, and the gradient of each loss, are functions of their own. TensorFlow compiles them once, and does not
    copy them into the functions that call them.

    Attributes:
      forward: the forward pass, a TensorFlow function of images.

    Args:
      model: a Keras model. It is not kept alive.
      images: `tf.TensorSpec` `[None, height, width, channels]`.
      jit_compile: whether to compile with XLA.
    """

    def __init__(self, model: KerasModel, images: tf.TensorSpec, jit_compile: bool):
        super().__init__(weakref.proxy(model))
        self._images = images
        self._jit_compile = jit_compile
        self._functions: collections.OrderedDict = collections.OrderedDict()
        self._lock = threading.RLock()
        self.forward = self._compile(self._call, [images])
        expect_one_output(self.forward.structured_outputs)
        self.has_gradient = False

    @property
    def is_compact(self) -> bool:
        # XLA compiles a batch of another size anew.
        return not self._jit_compile

    @property
    def predictions(self) -> tf.TensorSpec:
        """The shape and dtype of the predictions."""
        return tf.TensorSpec.from_tensor(self.forward.structured_outputs)

    def probe_gradient(self, images: Images) -> bool:
        """Finds out whether a gradient of the predictions reaches the images, even if it is zero: then NaN reaches them too.

        A batch without images does not tell; there every attack may go on.
        """
        if not images.shape[0]:
            return True
        if not self.has_gradient:
            try:
                # Without XLA, whose ReLUs let no NaN through where they are inactive.
                _, (gradient,) = self.differentiate(images[:_PROBED], lambda predictions: [math.nan * predictions])
                self.has_gradient = bool(tf.reduce_any(tf.math.is_nan(gradient)))
            except tf.errors.ResourceExhaustedError:
                raise
            except (_NoGradientError, NotImplementedError, tf.errors.OpError):
                self.has_gradient = False
        return self.has_gradient

    def predict(self, images: Images) -> Predictions:
        return self.forward(images)

    def classes(self, images: Images) -> Optional[int]:
        return self.predictions.shape[1]

    def differentiate_loss(
        self, images: Images, labels: Labels, raised: RaisedLoss, scale: Number = 1.0
    ) -> tuple[Predictions, tf.Tensor]:
        if raised.targeted:  # The same gradient with the other sign: the model is not traced for it again.
            raised, scale = raised._replace(targeted=False), -scale

        def differentiate(images, labels, scale):
            return super(TracedClassifier, self).differentiate_loss(images, labels, raised, scale)

        key = "differentiate_loss", raised
        return self.run(key, differentiate, images, labels, tf.constant(scale))

    def run(self, key: Any, function: Callable, *tensors: tf.Tensor) -> Any:
        specs = tuple(spec_of_any_batch(tensor) for tensor in tensors)
        key = key, specs
        with self._lock:
            if key not in self._functions:
                self._functions[key] = self._compile(function, specs)
                while len(self._functions) > _KEPT_FUNCTIONS:
                    self._functions.popitem(last=False)
            self._functions.move_to_end(key)
            compiled = self._functions[key]
        return compiled(*tensors)

    def _compile(self, function, specs):
        """A function that is compiled once, and not copied into those that call it."""
        options = {"jit_compile": True} if self._jit_compile else {"experimental_attributes": {"_noinline": True}}
        return tf.function(function, autograph=False, **options).get_concrete_function(*specs)

"""What a search may ask of a model: its predictions, and their gradients with respect to images.

In a user's graph the model is called where it is asked. Outside of one it is traced once for each kind of batch, and
every search of every attack calls what came of that.
"""

import weakref

import tensorflow as tf

_NO_GRADIENT = (
    "Expected a model whose predictions can be differentiated with respect to its images, for an attack by gradient. "
    "Received one without such a gradient: it may round, cast to integers, decode JPEG or call Python on the way. Attack "
    "it by FlowSquare, FlowSPSA, RandomFlow or RotationTranslation, which need no gradient, or by AutoDeform, which then "
    "leaves out the others."
)


class Classifier:
    """A model in inference mode, called directly.

    Args:
      model: a Keras model, images to predictions.
    """

    # Nothing is computed while a graph is built: a missing gradient is an error then.
    has_gradient = True

    def __init__(self, model):
        self._model = model

    def predict(self, images):
        """`[batch, classes]`."""
        return self._model(images, training=False)

    def differentiate(self, images, measure, value_range):
        """The predictions, and the gradient of each number that is measured of them; see `Objective`."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            predictions = self._predict_differentiably(tf.clip_by_value(images, *value_range))
            measured = measure(_widened(predictions, images))
        try:
            gradients = [tape.gradient(values, images) for values in measured]
        except LookupError as error:
            raise ValueError(_NO_GRADIENT) from error
        if any(gradient is None for gradient in gradients):
            raise ValueError(_NO_GRADIENT)
        return predictions, gradients

    def differentiate_loss(self, images, labels, raised, value_range):
        """The predictions, and the gradient of a `RaisedLoss`."""
        predictions, (gradient,) = self.differentiate(images, lambda p: [raised(labels, p)], value_range)
        return predictions, gradient

    def _predict_differentiably(self, images):
        return self.predict(images)


class TracedClassifier(Classifier):
    """A model in inference mode, traced once for images like these in batches of any size.

    Its forward pass, and the gradient of each loss, are functions of their own, which TensorFlow compiles once and does
    not copy into the graphs that call them.

    Args:
      model: a Keras model. It is not kept alive.
      images: `tf.TensorSpec` `[None, height, width, channels]`.
    """

    def __init__(self, model, images):
        reference = weakref.ref(model)
        self._images = images
        self._trace = tf.function(lambda x: reference()(x, training=False), autograph=False).get_concrete_function(
            images
        )
        _expect_one_output(self._trace.structured_outputs)
        self._forward = _apart(self._trace, images)
        self._loss_gradients = {}
        self._has_gradient = False

    @property
    def predictions(self):
        """What the model gives, as a `tf.TensorSpec`."""
        return tf.TensorSpec.from_tensor(self._trace.structured_outputs)

    @property
    def has_gradient(self):
        """Whether `probe_gradient` has found a gradient."""
        return self._has_gradient

    def probe_gradient(self, images, labels, raised, value_range):
        """Looks for a gradient that is not zero: of the loss at these images, or of the predictions at noise."""
        if not self._has_gradient:
            try:
                _, gradient = self.differentiate_loss(images, labels, raised, value_range)
                self._has_gradient = bool(tf.reduce_any(gradient != 0)) or self._is_steep_at_noise(images, value_range)
            except (ValueError, tf.errors.OpError):
                self._has_gradient = False
        return self._has_gradient

    def predict(self, images):
        return self._forward(images)

    def differentiate_loss(self, images, labels, raised, value_range):
        key = raised, value_range, labels.dtype, tuple(labels.shape[1:])
        if key not in self._loss_gradients:

            def differentiate(images, labels):
                return super(TracedClassifier, self).differentiate_loss(images, labels, raised, value_range)

            labels_spec = tf.TensorSpec([None, *labels.shape[1:]], labels.dtype)
            self._loss_gradients[key] = _apart(differentiate, self._images, labels_spec)
        return self._loss_gradients[key](images, labels)

    def _predict_differentiably(self, images):
        # The trace itself: what is not needed of its gradient, that of the weights, is left out of the caller's graph.
        return self._trace(images)

    def _is_steep_at_noise(self, images, value_range):
        def measure(predictions):
            signs = tf.sign(tf.random.stateless_normal([1, predictions.shape[-1]], [0, 0], dtype=predictions.dtype))
            return [tf.reduce_sum(signs * predictions, axis=-1)]

        noise = tf.random.stateless_uniform(tf.shape(images), [0, 0], *value_range, images.dtype)
        _, (gradient,) = self.differentiate(noise, measure, value_range)
        return bool(tf.reduce_any(gradient != 0))


def _expect_one_output(predictions):
    if not tf.is_tensor(predictions):
        raise ValueError(
            "Expected a model with one output, logits or probabilities [batch, classes]. "
            f"Received a model that gives {type(predictions).__name__}."
        )


def _apart(function, *specs):
    """A function that is compiled once, and not copied into the graphs that call it."""
    compiled = tf.function(function, autograph=False, experimental_attributes={"_noinline": True})
    return compiled.get_concrete_function(*specs)


def _widened(predictions, images):
    """Predictions in half precision as those of the images."""
    return tf.cast(predictions, images.dtype) if predictions.dtype in (tf.float16, tf.bfloat16) else predictions

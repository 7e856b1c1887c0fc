"""Certificates: proofs that no flow in a ball changes a prediction."""

import contextlib
import time
from typing import NamedTuple, Optional

import keras
import numpy as np
import tensorflow as tf

from keras_flowreg.certification.activations import Sigmoid
from keras_flowreg.certification.choices import Chooser
from keras_flowreg.certification.intervals import Interval
from keras_flowreg.certification.leads import class_indices
from keras_flowreg.certification.network import Network
from keras_flowreg.certification.prover import METHODS, Prover
from keras_flowreg.certification.reach import reach
from keras_flowreg.certification.saturation import keep_their_order
from keras_flowreg.certification.softmax import Softmax
from keras_flowreg.ops.labels import split_predictions
from keras_flowreg.ops.losses import compiled_loss, takes_logits
from keras_flowreg.ops.matching import expect_images_of
from keras_flowreg.ops.validation import (
    as_images,
    as_labels,
    expect_instance,
    expect_one_of,
    expect_positive,
    expect_positive_integer,
    expect_same_batch,
)
from keras_flowreg.types import Images, KerasModel, Labels, PerExample
from keras_flowreg.wrapped import classifier_of

_COEFFICIENTS_AT_ONCE = 2**24  # of the leads of a batch: the classes' number squared for each example


class Certificate(NamedTuple):
    """What is proven of each example. `certify` returns it.

    ```python
    certificate = fr.certify(model, images, labels, epsilon=0.01)
    print(certificate.certified.numpy().mean())  # certified accuracy
    ```
    """

    certified: tf.Tensor  # bool [batch], whether no flow in the ball changes the right class
    margin: PerExample  # the label's logit minus the best other one is at least this, under every flow
    method: np.ndarray  # str [batch], the method that gave the margin
    seconds: float


def certify(
    model: KerasModel,
    images: Images,
    labels: Labels,
    epsilon: float,
    *,
    method: str = "auto",
    norm: str = "linf",
    budget: Optional[float] = None,
    batch_size: int = 64,
) -> Certificate:
    """Proves, where it can, that a model classifies an example rightly under every flow in a ball.

        margin[b] ≤ min over flows of (z_label - max over k ≠ label of z_k),    z = model(T(images[b]; flow))

    An example is certified if that bound is positive. No attack within the ball fools a certified example. One that is not
    certified need not be breakable: the bound may be loose. The ball holds every flow, smooth or not, so that a bound for
    smooth flows alone could be better.

    Every pixel becomes an interval (`certification.reach_box`), which goes through the network:

    - `"ibp"`: interval by interval; quick, and tight only for networks that are trained for it.
    - `"crown_ibp"`: the margin goes back from the logits to the image, with two lines around each activation, on the
      intervals of `"ibp"`.
    - `"crown"`: so goes every input of an activation that is not linear on its interval. The time grows with their number.
    - `"alpha_crown"`: what `"crown"` leaves open, with lines below ReLUs whose slopes are optimized for each margin.
    - `"beta_crown"`: what that leaves open, by branch and bound: the interval of an activation's input is cut in two, again
      and again, and each half is bounded on its own. An example is left out if something that it can become is wrong, and
      given up after some 64 cuts, or when their pace would not do.
    - `"auto"`: the five in this order, each on what is correct and not yet certified.

    Each method also keeps what the ones before it prove. The proof is in real arithmetic, on the weights as they are; what
    float32 may round is allowed for: each pixel as `reach_box` says, each sum of n terms by 5e-7 + 2e-8 n of them without their
    signs, each bound by 4e-6 of the sums that it is made of, the margin by 1e-5. No margin is above the lead of the images as
    they are.

    ```python
    certificate = fr.certify(model, images, labels, epsilon=0.01)
    print(certificate.certified.numpy().mean(), certificate.margin.numpy())
    ```

    Args:
      model: a Keras model. Its layers have a rule for bounds, or a `call` that takes symbolic tensors and uses such layers,
        and operations with a rule; see `certification.register_rule`. Of a `FlowRegularizedModel` the base model is taken.
        Its predictions are logits `[batch, classes]`, or one logit for two classes; of a last softmax or sigmoid, what goes
        into it. Where sigmoids of several classes may be the same to float32 under a flow, nothing is certified.
      images: `[batch, height, width, channels]`.
      labels: class indices `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
      epsilon: the radius, in pixels.
      method: `"auto"`, `"ibp"`, `"crown_ibp"`, `"crown"`, `"alpha_crown"` or `"beta_crown"`.
      norm: `"linf"` or `"pixel_l2"`; see `attacks.FlowPGD`.
      budget: seconds after which `"crown"` bounds no more activations, `"alpha_crown"` takes no more steps and
        `"beta_crown"` makes no more cuts, also as parts of `"auto"`; `None` for no limit. The margins are sound even so.
      batch_size: how many examples are bounded together; fewer of many classes.

    Returns:
      `Certificate`.

    Raises:
      ValueError: if an argument is out of its range, if a layer or an operation has no rule, if one prediction for two classes
        is a probability that does not come out of a last sigmoid, or in a graph.
      TypeError: if `model` is not a Keras model, or images or labels are not numbers.

    Reference: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably robust models",
    2018; Zhang et al., "Efficient neural network robustness certification with general activation functions" (CROWN), 2018;
    Zhang et al., "Towards stable and efficient training of verifiably robust neural networks" (CROWN-IBP), 2020;
    Xu et al., "Fast and complete" (alpha-CROWN), 2021, whose slopes behind the intervals are CROWN's here; Wang et al.,
    "Beta-CROWN: efficient bound propagation with per-neuron split constraints", 2021. The box of pixels that flows can
    reach is this library's.
    """
    return Certification(model)(images, labels, epsilon, method=method, norm=norm, budget=budget, batch_size=batch_size)


class Certification:
    """`certify` for one model. It is read and traced once, for any number of calls, and its weights must stay as they are.

    ```python
    from keras_flowreg.certification.certify import Certification

    certification = Certification(model)
    for epsilon in (0.01, 0.02):
        print(certification(images, labels, epsilon).certified.numpy().mean())
    ```

    Args:
      model: as of `certify`, whose arguments are those of a call.
    """

    def __init__(self, model: KerasModel):
        self._model = classifier_of(expect_instance("model", model, keras.Model))
        self._chooser: Optional[Chooser] = None

    def __call__(
        self,
        images: Images,
        labels: Labels,
        epsilon: float,
        *,
        method: str = "auto",
        norm: str = "linf",
        budget: Optional[float] = None,
        batch_size: int = 64,
    ) -> Certificate:
        if not tf.executing_eagerly():
            raise ValueError(
                "Expected `certify` to run eagerly. Received a call inside of a tf.function or of Dataset.map."
            )
        images, labels = tf.cast(as_images(images), tf.float32), as_labels(labels)
        expect_same_batch(images, labels)
        expect_images_of(self._model, images)
        if not len(images):
            raise ValueError("Expected at least one image. Received none.")
        is_selective = expect_one_of("method", method, ("auto", *METHODS)) == "auto"
        methods = METHODS if is_selective else METHODS[: METHODS.index(method) + 1]
        budget = float("inf") if budget is None else expect_positive("budget", budget)
        expect_positive_integer("batch_size", batch_size)
        reach(images[:1], epsilon, norm)  # Errors come before any work.
        start = time.monotonic()
        with _full_precision():
            chooser = self._read_model(images)
            logits = tf.concat(
                [self._logits(chooser.network, images[batch]) for batch in _batches(images, batch_size)], axis=0
            )
            indices = class_indices(labels, logits)
            if logits.shape[1] == 1:
                _expect_logit(self._model, chooser.network, images)
            at_once = min(batch_size, max(1, _COEFFICIENTS_AT_ONCE // logits.shape[1] ** 2))
            prover = Prover(
                chooser,
                methods,
                is_selective,
                lambda: time.monotonic() - start > budget,
                logits,
                indices,
                at_once,
            )
            for batch in _batches(images, at_once):
                prover.prove(reach(images[batch], epsilon, norm), np.arange(len(images))[batch])
            prover.finish()
            margin = _without_ties(chooser.network, logits, labels, prover.margin)
            if logits.shape[1] > 1 and isinstance(chooser.network.last, Sigmoid):
                for batch in _batches(images, at_once):
                    reachable = reach(images[batch], epsilon, norm)
                    in_order = keep_their_order(
                        chooser.network, reachable, indices[batch], margin[batch], logits.shape[1]
                    )
                    margin[batch] = np.where(in_order, margin[batch], np.minimum(margin[batch], 0))
        margin = tf.constant(margin)
        return Certificate(margin > 0, margin, np.array(METHODS)[prover.by], time.monotonic() - start)

    def _read_model(self, images):
        if self._chooser is None:
            self._model(images[:1], training=False)  # A model has no weights before it has seen an image.
            network = Network(self._model, images.shape[1:])
            network.check(self._model, images)
            self._chooser = Chooser(network)
        return self._chooser

    def _logits(self, network, images):
        """By the model itself, but for what goes into a last softmax or sigmoid."""
        is_last = network.logits == network.output
        return self._model(images, training=False) if is_last else network.values(images)[network.logits]


def _expect_logit(model, network, images):
    """Checks that one prediction for two classes is a logit, whose sign is the class, and no probability."""
    if network.logits != network.output:
        is_probability = isinstance(network.last, Softmax)
    else:
        loss = compiled_loss(model)
        # Of a few images that are alike, such as a black one, a logit may have one sign alone.
        ends = tf.minimum(tf.reduce_min(images), 0), tf.maximum(tf.reduce_max(images), 1)
        any_image = Interval(*(tf.fill(images[:1].shape, end) for end in ends))
        is_never_negative = tf.reduce_all(network.intervals(any_image)[network.output].low >= 0)
        is_probability = (loss is not None and takes_logits(loss) is False) or is_never_negative
    if is_probability:
        raise ValueError(
            "Expected one logit for two classes, or a sigmoid as the last step of all. Received a model whose one prediction "
            "is a probability on another way: `two_class_classifier` makes a model of two classes of it."
        )


def _without_ties(network, logits, labels, margins):
    """Margins, of which none is positive where sigmoids of several classes are the same to float32, or in another order."""
    if network.logits == network.output or logits.shape[1] == 1:
        return margins
    label, others = split_predictions(labels, network.predictions(logits))
    return np.where(label > tf.reduce_max(others, axis=1), margins, np.minimum(margins, 0))


def _batches(images, size):
    return [slice(first, first + size) for first in range(0, len(images), size)]


@contextlib.contextmanager
def _full_precision():
    """No TensorFloat-32, which rounds to three digits."""
    was_on = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was_on)

"""How an attack is run on a batch: input checks, the compiled model, results."""

import threading
import weakref
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.attacks.classifier import Classifier, TracedClassifier
from keras_flowreg.attacks.search import Examples, Objective, RaisedLoss
from keras_flowreg.ops.flows import DisplacementStatistics, displacement_statistics
from keras_flowreg.ops.losses import compiled_loss, expect_labels_in_range, resolve_loss
from keras_flowreg.ops.validation import as_images, expect_in_range, expect_instance, expect_same_batch

_WITHOUT_GRADIENT = (
    "Expected a model whose predictions can be differentiated with respect to its images, for {attack}. Received one that "
    "cannot be: it may round, cast to integers, decode JPEG or call Python on the way. Attack it by FlowSquare, FlowSPSA, "
    "RandomFlow or RotationTranslation, which need no gradient, or by AutoDeform, which then leaves out the others."
)


class AttackResult(NamedTuple):
    """What an attack has done to each example of a batch."""

    images: tf.Tensor  # adversarial, [batch, height, width, channels]
    parameters: tf.Tensor  # θ, [batch, ...]
    flow: tf.Tensor  # θ as displacements, [batch, height, width, 2], in pixels
    success: tf.Tensor  # bool [batch]
    loss: tf.Tensor  # [batch]
    clean_success: tf.Tensor  # bool [batch]: already so without any perturbation
    clean_loss: tf.Tensor  # [batch]
    queries: tf.Tensor  # int32 [batch]
    displacement: DisplacementStatistics  # each [batch]


def run(attack, images, labels, *, model, loss=None, seed=None, stop_when_fooled=True):
    """Runs an attack on a batch, as `Attack.run` says.

    Outside of a graph the search's queries are compiled, and kept for the next batch of this kind, of any size. Inside
    of one the search becomes a part of that graph.
    """
    expect_instance("model", model, keras.Model)
    images, labels = as_images(images), tf.convert_to_tensor(labels)
    expect_same_batch(images, labels)
    images = expect_in_range(images, attack.value_range)
    raised = RaisedLoss(resolve_loss(attack.loss if loss is None else loss, compiled_loss(model)), attack.targeted)
    seed = tf.constant([attack.seed, 0]) if seed is None else tf.convert_to_tensor(seed)
    if not tf.executing_eagerly():
        return _search(attack, Classifier(model), raised, images, labels, seed, stop_when_fooled)
    classifier = traced_classifier(model, images, attack.jit_compile)
    labels = expect_labels_in_range(labels, classifier.predictions, raised.loss)
    if not classifier.probe_gradient(images, labels, raised) and attack.needs_gradient:
        raise ValueError(_WITHOUT_GRADIENT.format(attack=attack.name))
    return _search(attack, classifier, raised, images, labels, seed, stop_when_fooled)


def has_gradient(model, images):
    """Whether attacks by gradient can work on a model: a gradient of its predictions reaches the images.

    Args:
      model: a Keras model, images to logits or probabilities.
      images: `[batch, height, width, channels]`, of the model's kind.
    """
    images = as_images(images)
    classifier = traced_classifier(model, images)
    labels = tf.argmax(classifier.predict(images), axis=-1)
    return classifier.probe_gradient(images, labels, RaisedLoss(resolve_loss("margin"), targeted=False))


def _search(attack, classifier, raised, images, labels, seed, stop_when_fooled):
    """The search, and what came of it."""
    objective = Objective(classifier, raised, attack.perturbation, attack.value_range)
    batch = tf.shape(images)[0]
    examples = Examples(images, labels, None, tf.range(batch), batch, classifier.is_compact, stop_when_fooled)
    clean, best = objective.search(attack, examples, seed)
    best = tf.nest.map_structure(tf.stop_gradient, best)
    flow = attack.perturbation.flow(images, best.parameters)
    return AttackResult(
        images=tf.stop_gradient(objective.perturb(images, best.parameters)),
        parameters=best.parameters,
        flow=flow,
        success=best.success,
        loss=best.loss,
        clean_success=clean.success,
        clean_loss=clean.loss,
        queries=best.queries,
        displacement=displacement_statistics(flow),
    )


# What is compiled for each model: by the kind of its images, and whether with XLA. It does not keep the model alive.
_classifiers = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def traced_classifier(model, images, jit_compile="auto"):
    """The `TracedClassifier` of a model for images like these."""
    if jit_compile == "auto":
        jit_compile = compat.jit_compile_on_this_machine()
    spec = tf.TensorSpec([None, *images.shape[1:]], images.dtype)
    with _lock:
        kinds = _classifiers.setdefault(model, {})
        if (spec, jit_compile) not in kinds:
            kinds[spec, jit_compile] = TracedClassifier(model, spec, jit_compile)
        return kinds[spec, jit_compile]

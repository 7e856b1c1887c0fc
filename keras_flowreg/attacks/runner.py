"""How an attack is run on a batch: input checks, compiled functions, results."""

import collections
import threading
import weakref
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.attacks.classifier import Classifier, TracedClassifier
from keras_flowreg.attacks.search import Examples, Objective, RaisedLoss, keep_best
from keras_flowreg.ops.flows import DisplacementStatistics, displacement_statistics
from keras_flowreg.ops.losses import compiled_loss, expect_labels_in_range, resolve_loss
from keras_flowreg.ops.validation import as_images, expect_in_range, expect_instance, expect_same_batch

# Compiled searches that are kept for each model, the latest ones.
_KEPT_SEARCHES = 32


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

    Outside of a graph the search is compiled, and kept for the next batch of this kind, of any size. Inside of one it
    becomes a part of that graph.
    """
    expect_instance("model", model, keras.Model)
    images, labels = as_images(images), tf.convert_to_tensor(labels)
    expect_same_batch(images, labels)
    images = expect_in_range(images, attack.value_range)
    loss = resolve_loss(attack.loss if loss is None else loss, compiled_loss(model))
    seed = tf.constant([attack.seed, 0]) if seed is None else tf.convert_to_tensor(seed)
    raised = RaisedLoss(loss, attack.targeted)
    if not tf.executing_eagerly():
        # Whoever compiles this graph may do so with XLA, which cannot leave examples out.
        return _search(attack, Classifier(model), raised, images, labels, seed, stop_when_fooled, compact=False)
    functions = _functions_of(model)
    classifier = functions.classifier(images)
    expect_labels_in_range(labels, classifier.predictions, loss)
    classifier.probe_gradient(images, labels, raised, attack.value_range)
    return functions.search(attack, classifier, raised, images, labels, seed, stop_when_fooled)(images, labels, seed)


def has_gradient(model, images, value_range=(0.0, 1.0)):
    """Whether attacks by gradient can work on a model: its predictions for images have a gradient that is not zero.

    Args:
      model: a Keras model, images to logits or probabilities.
      images: `[batch, height, width, channels]`, of the model's kind.
      value_range: the least and the greatest value of an image.
    """
    images = as_images(images)
    classifier = _functions_of(model).classifier(images)
    labels = tf.argmax(classifier.predict(images), axis=-1)
    return classifier.probe_gradient(images, labels, RaisedLoss(resolve_loss("margin"), False), value_range)


def _search(attack, classifier, raised, images, labels, seed, stop_when_fooled, compact):
    """The whole search as operations on tensors."""
    objective = Objective(classifier, raised, attack.perturbation, attack.value_range)
    predictions = classifier.predict(images)
    labels = expect_labels_in_range(labels, predictions, raised.loss)
    clean = objective.candidate(attack.perturbation.identity(images), predictions, labels)
    batch = tf.shape(images)[0]
    examples = Examples(images, labels, clean.loss, tf.range(batch), batch, compact, stop_when_fooled)
    found = attack.search(objective, examples, clean, seed)
    best = tf.nest.map_structure(tf.stop_gradient, keep_best(clean, found, examples))
    flow = attack.perturbation.flow(images, best.parameters)
    return AttackResult(
        images=tf.stop_gradient(objective.perturb(images, best.parameters)),
        parameters=best.parameters,
        flow=flow,
        success=best.success,
        loss=best.loss,
        clean_success=clean.success,
        clean_loss=clean.loss,
        queries=found.queries,
        displacement=displacement_statistics(flow),
    )


class _Functions:
    """What is compiled for one model. It does not keep the model alive."""

    def __init__(self, model):
        self._model = weakref.ref(model)
        self._classifiers = {}
        self._searches = collections.OrderedDict()
        self._lock = threading.RLock()

    def classifier(self, images):
        """The model, traced for images like these."""
        spec = tf.TensorSpec([None, *images.shape[1:]], images.dtype)
        with self._lock:
            if spec not in self._classifiers:
                self._classifiers[spec] = TracedClassifier(self._model(), spec)
            return self._classifiers[spec]

    def search(self, attack, classifier, raised, images, labels, seed, stop_when_fooled):
        """An attack's search, compiled for batches like this one, of any size."""
        specs = [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in (images, labels)]
        specs.append(tf.TensorSpec(seed.shape, seed.dtype))
        key = attack, raised, *specs, stop_when_fooled, classifier.has_gradient
        with self._lock:
            if key not in self._searches:
                self._searches[key] = _compile(attack, classifier, raised, specs, stop_when_fooled)
                while len(self._searches) > _KEPT_SEARCHES:
                    self._searches.popitem(last=False)
            self._searches.move_to_end(key)
            return self._searches[key]


_functions = weakref.WeakKeyDictionary()
_functions_lock = threading.Lock()


def _functions_of(model):
    with _functions_lock:
        if model not in _functions:
            _functions[model] = _Functions(model)
        return _functions[model]


def _compile(attack, classifier, raised, specs, stop_when_fooled):
    is_automatic = attack.jit_compile == "auto"
    jit_compile = compat.jit_compile_on_this_machine() if is_automatic else attack.jit_compile

    def search(images, labels, seed):
        return _search(attack, classifier, raised, images, labels, seed, stop_when_fooled, compact=not jit_compile)

    return tf.function(search, jit_compile=jit_compile, autograph=False).get_concrete_function(*specs)

"""How an attack is run on a batch: input checks, the compiled model, results."""

import collections
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple, Optional

import keras
import tensorflow as tf

from keras_flowreg import compat
from keras_flowreg.attacks.classifier import Classifier, TracedClassifier
from keras_flowreg.attacks.raised_loss import RaisedLoss
from keras_flowreg.attacks.search import Examples, Objective
from keras_flowreg.ops.flows import DisplacementStatistics, displacement_statistics
from keras_flowreg.ops.losses import compiled_loss, ignored_class, resolve_loss
from keras_flowreg.ops.matching import expect_images_of, expect_within_images
from keras_flowreg.ops.signatures import spec_of_any_batch
from keras_flowreg.ops.validation import (
    as_images,
    as_labels,
    as_seed_pair,
    expect_boolean,
    expect_in_range,
    expect_instance,
    expect_same_batch,
)
from keras_flowreg.types import Images, JitCompile, KerasModel, Labels, Loss, PerExample, Seed

if TYPE_CHECKING:
    from keras_flowreg.attacks.base import Attack

_WITHOUT_GRADIENT = (
    "Expected a model whose predictions can be differentiated with respect to its images, for {attack}. Received one that "
    "cannot be: it may round, cast to integers, decode JPEG or call Python on the way. Attack it by FlowSquare, FlowSPSA, "
    "RandomFlow or RotationTranslation, which need no gradient, or by AutoDeform, which then leaves out the others."
)


class AttackResult(NamedTuple):
    """What an attack has done to each example of a batch.

    ```python
    result = fr.attacks.FlowPGD(epsilon=0.4, steps=5).run(images, labels, model=model)
    print(result.success, result.queries, result.displacement.largest)
    ```
    """

    images: tf.Tensor  # adversarial, [batch, height, width, channels]
    parameters: tf.Tensor  # θ, [batch, ...]
    flow: tf.Tensor  # θ as displacements, [batch, height, width, 2], in pixels
    success: PerExample  # bool: whether the model is fooled
    loss: PerExample
    clean_success: PerExample  # bool: whether it is fooled without any perturbation
    clean_loss: PerExample
    queries: PerExample  # int32: how often the model was run on the image
    displacement: DisplacementStatistics  # each [batch]


def run(
    attack: "Attack",
    images: Images,
    labels: Labels,
    *,
    model: KerasModel,
    loss: Optional[Loss] = None,
    seed: Optional[Seed] = None,
    stop_when_fooled: bool = True,
) -> AttackResult:
    """Runs an attack on a batch; `Attack` explains the arguments.

    Outside of a graph the search's queries are compiled, and kept for the next batch of this kind, of any size. Inside
    of a graph the search becomes a part of it.
    """
    expect_instance("model", model, keras.Model)
    expect_boolean("stop_when_fooled", stop_when_fooled)
    images, labels = expect_examples(attack, images, labels, model)
    trained = compiled_loss(model)
    loss = resolve_loss(attack.loss if loss is None else loss, trained)
    ignored = ignored_class(loss)
    raised = RaisedLoss(loss, attack.targeted, ignored_class(trained) if ignored is None else ignored)
    seed = tf.constant([attack.seed, 0]) if seed is None else as_seed_pair(seed)
    if not tf.executing_eagerly():
        return _search(attack, Classifier(model), raised, images, labels, seed, stop_when_fooled)
    classifier = traced_classifier(model, images, attack.jit_compile)
    raised.expect_labels(labels, classifier.predictions)
    # One that is made of others leaves out those that need a gradient, where there is none.
    asks_for_gradient = attack.needs_gradient or not attack.is_compiled
    if asks_for_gradient and not classifier.probe_gradient(images) and attack.needs_gradient:
        raise ValueError(_WITHOUT_GRADIENT.format(attack=attack.name))
    result = _search(attack, classifier, raised, images, labels, seed, stop_when_fooled)
    if tf.reduce_any(tf.math.is_nan(result.clean_loss)):
        raise ValueError("Expected a model whose loss on images is a number. Received NaN: are its weights finite?")
    return result


def expect_examples(attack: "Attack", images: Images, labels: Labels, model: KerasModel) -> tuple[tf.Tensor, tf.Tensor]:
    """Checks that a batch is one that an attack takes, but for the values of its labels; returns it as tensors.

    Raises:
      TypeError: if images or labels are not numbers.
      ValueError: if they have other shapes, are not of one batch, or are smaller than the attack's displacements; if values
        are outside of its range (in a graph: InvalidArgumentError).
    """
    images, labels = as_images(images), as_labels(labels)
    expect_same_batch(images, labels)
    expect_images_of(model, images)
    for name, pixels in attack.displacements().items():
        expect_within_images(name, pixels, images)
    return expect_in_range(images, attack.value_range), labels


def has_gradient(model: KerasModel, images: Images) -> bool:
    """Whether attacks by gradient can work on a model: whether a gradient of its predictions reaches the images.

    Args:
      model: a Keras model, from images to logits or probabilities.
      images: `[batch, height, width, channels]`, images that the model takes.
    """
    images = as_images(images)
    return traced_classifier(model, images).probe_gradient(images)


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


class _Traces:
    """The classifiers of a model as it is: by the kind of its images, and whether with XLA. They do not keep it alive."""

    def __init__(self, model: KerasModel):
        self.kinds: collections.OrderedDict[tuple, TracedClassifier] = collections.OrderedDict()
        self.keep(model)

    def keep(self, model: KerasModel) -> None:
        """Keeps in mind what the model is made of. One without weights has them when it is traced."""
        self._parts = [weakref.ref(part) for part in _parts(model)]

    def are_of(self, model: KerasModel) -> bool:
        """Whether the model has the same layers and variables still, and was not compiled again."""
        parts = _parts(model)
        return len(parts) == len(self._parts) and all(kept() is part for kept, part in zip(self._parts, parts))


def _parts(model):
    compiled = compat.compiled(model)
    # Quantization gives a layer other variables.
    weights = model.weights if model.built else []
    return [*compat.all_layers(model), *weights, *([] if compiled is None else [compiled])]


_KEPT_KINDS = 8  # of images of a model, the latest ones: a model may take images of any size
_traces: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def traced_classifier(model: KerasModel, images: tf.Tensor, jit_compile: JitCompile = "auto") -> TracedClassifier:
    """The `TracedClassifier` of a model, for images of one shape and dtype.

    A model that has changed is traced anew. As for Keras's own functions, a changed option of a layer counts when the model is
    compiled again.
    """
    if jit_compile == "auto":
        jit_compile = compat.jit_compile_on_this_machine(model)
    spec = spec_of_any_batch(images)
    with _lock:
        if model not in _traces or not _traces[model].are_of(model):
            _traces[model] = _Traces(model)
        kinds, kind = _traces[model].kinds, (spec, jit_compile)
        if kind not in kinds:
            kinds[kind] = TracedClassifier(model, spec, jit_compile)
            _traces[model].keep(model)
        kinds.move_to_end(kind)
        while len(kinds) > _KEPT_KINDS:
            kinds.popitem(last=False)
        return kinds[kind]

"""What an attack is: a Keras layer that holds the options of a search, and knows no model."""

import inspect
import json
from collections.abc import Sequence
from typing import Any, Optional

import keras
import tensorflow as tf

from keras_flowreg import balls
from keras_flowreg.attacks import runner
from keras_flowreg.attacks.search import Candidate, Examples, Objective
from keras_flowreg.descriptions import described, described_loss
from keras_flowreg.ops.losses import deserialize_loss, expect_loss
from keras_flowreg.ops.validation import (
    expect_boolean,
    expect_instance,
    expect_jit_compile,
    expect_seed,
    expect_value_range,
)
from keras_flowreg.perturbations import Flow, Perturbation, SmoothFlow
from keras_flowreg.types import Config, Images, JitCompile, KerasModel, Labels, Loss, Seed, ValueRange


class Attack(keras.layers.Layer):
    """Searches a threat model for the perturbation that raises each example's loss most.

    An attack holds its options and nothing else. The model comes with the call:

    ```python
    attack = fr.attacks.FlowPGD(epsilon=0.4, steps=5)
    adversarial_images = attack(images, labels, model=model)
    result = attack.replace(epsilon=0.2).run(images, labels, model=model)
    print(result.success, result.flow)
    ```

    Every attack keeps the same promises. Each example is attacked on its own: what comes of it does not depend on its
    neighbours. The work on an example ends as soon as it is fooled. An example that is fooled without any perturbation
    is returned as it is. Unless the model is fooled, the loss of what is returned is never less than that of the clean image.
    The same call gives the same images.

    The model runs in inference mode. It is traced once for each kind of batch, and each attack's search is compiled on
    top of that. What comes back is a constant: no gradient flows through an attack.

    A subclass must give:

    - `perturbation`: the `Perturbation` T(x; θ) whose θ is searched.
    - `search(objective, examples, clean, seed)`: the search; see there.
    - an `__init__` that names each option, and keeps it as an attribute of the same name; those of the class above it may
      come as `**options`. The signature is the one declaration of the options: `options`, `replace`, `repr`, equality
      and the configuration follow from it.

    A subclass may give:

    - `epsilon` and `ball`, for an attack with a radius: the radius, and the `balls.Ball` that θ is searched in.
    - `needs_gradient = False`, for a search that only queries the model.
    - `number_options = ("epsilon",)`, the options that its search takes as scalar tensors too. Then one compiled search
      serves attacks of every radius.

    Args:
      loss: the loss that the attack raises: a Keras loss (instance, function or name), `"margin"` or `"log_odds"` (see
        `ops.MarginLoss` and `ops.LogOddsLoss`). `None` stands for the loss that the model is compiled with when it is
        attacked.
      targeted: whether the labels are the classes that the model should be led to. Then their loss is lowered.
      value_range: the least and the greatest value of an image. Adversarial images keep to it.
      seed: a whole number, which decides all that is random in the search.
      jit_compile: whether to compile with XLA; `"auto"` does where there is a GPU.
      name: the name of the layer. The default is the class's name.

    Call arguments:
      images: `[batch, height, width, channels]` within `value_range`.
      labels: `[batch]`, or as the loss takes them.
      model: a Keras model, from images to logits or probabilities of at least two classes.
      loss: a loss to raise instead of the attack's own.
      seed: two integers, to be used instead of the attack's own seed.
      stop_when_fooled: whether the work on an example ends when the model is fooled. `False` goes on to raise its loss,
        as adversarial training wants.

    Returns:
      The adversarial images, of the shape of `images`, float32 (float64 for float64 images). `run` returns more.

    Raises:
      TypeError: if an option is unknown, or `model` is not a Keras model.
      ValueError: if an argument is out of its range; if a batch holds NaN, values outside the value range, or labels
        without a class; if the model has no gradient and the attack needs one. In a graph, what depends on a batch's
        values is an InvalidArgumentError.
    """

    needs_gradient = True
    # The options that `search` takes as scalar tensors too. Attacks that differ in them alone share a compiled search.
    number_options: tuple[str, ...] = ()
    # Whether the search is compiled as one. An attack that is made of others leaves that to them.
    is_compiled = True
    # The radius of the threat model, for an attack that has one.
    epsilon: Optional[float] = None

    def __new__(cls, *args, **options):
        known = _option_names(cls)
        unknown = [name for name in options if name not in known]
        if unknown:
            raise TypeError(f"Expected options of {cls.__name__}: {', '.join(known)}. Received {', '.join(unknown)}.")
        return super().__new__(cls, *args, **options)

    def __init__(
        self,
        *,
        loss: Optional[Loss] = None,
        targeted: bool = False,
        value_range: ValueRange = (0.0, 1.0),
        seed: int = 0,
        jit_compile: JitCompile = "auto",
        name: Optional[str] = None,
    ):
        # Images come as they are: Keras would cast them.
        super().__init__(name=type(self).__name__ if name is None else name, autocast=False)
        self.loss = expect_loss(loss)
        self.targeted = expect_boolean("targeted", targeted)
        self.value_range = expect_value_range(value_range)
        self.seed = expect_seed(seed)
        self.jit_compile = expect_jit_compile(jit_compile)
        self.built = True

    @property
    def perturbation(self) -> Perturbation:
        """The `Perturbation` T(x; θ) whose θ is searched."""
        raise NotImplementedError

    @property
    def ball(self) -> Optional[balls.Ball]:
        """The ball that θ is searched in, or `None` for an attack without a radius."""
        return None

    def displacements(self) -> dict[str, Optional[float]]:
        """The options that are distances in pixels, which an image cannot be smaller than: ε, if it bounds each of a flow's."""
        is_flow = isinstance(self.perturbation, (Flow, SmoothFlow))
        return {"epsilon": self.epsilon} if is_flow and not isinstance(self.ball, balls.L2Ball) else {}

    def search(self, objective: Objective, examples: Examples, clean: Candidate, seed: Seed) -> Candidate:
        """Searches θ; what a subclass must give.

        Args:
          objective: the `search.Objective` to maximize. Each of its queries runs the model on a batch once.
          examples: `search.Examples`: images `[batch, height, width, channels]`, labels, and each one's clean loss.
          clean: their `search.Candidate` without any perturbation.
          seed: two integers.

        Returns:
          The best `search.Candidate` for each example.
        """
        raise NotImplementedError

    def __call__(self, *args: Any, **options: Any) -> tf.Tensor:
        # Not by way of Keras, which wraps an error in a page of its own.
        return self.call(*args, **options)

    def call(
        self,
        images: Images,
        labels: Labels,
        *,
        model: KerasModel,
        loss: Optional[Loss] = None,
        seed: Optional[Seed] = None,
        stop_when_fooled: bool = True,
    ) -> tf.Tensor:
        return self.run(images, labels, model=model, loss=loss, seed=seed, stop_when_fooled=stop_when_fooled).images

    def run(
        self,
        images: Images,
        labels: Labels,
        *,
        model: KerasModel,
        loss: Optional[Loss] = None,
        seed: Optional[Seed] = None,
        stop_when_fooled: bool = True,
    ) -> runner.AttackResult:
        """Attacks a batch, and returns all there is to know of it: an `AttackResult`.

        The arguments are those of a call.
        """
        return runner.run(self, images, labels, model=model, loss=loss, seed=seed, stop_when_fooled=stop_when_fooled)

    def compute_output_shape(self, images_shape: tuple, labels_shape: Optional[tuple] = None) -> tuple:
        return images_shape

    def options(self) -> dict[str, Any]:
        """Every argument of the constructor, by name."""
        return {name: _plain_tuple(getattr(self, name)) for name in _option_names(type(self))}

    def replace(self, **changes: Any) -> "Attack":
        """A copy with other options: `attack.replace(epsilon=0.2)`."""
        return type(self)(**{**self.options(), **changes})

    def numbers(self) -> dict[str, float]:
        """The options that a compiled search is given as tensors, by name."""
        values = {name: getattr(self, name) for name in self.number_options}
        return {name: value for name, value in values.items() if value is not None}

    def with_numbers(self, numbers: Sequence[tf.Tensor]) -> "Attack":
        """A copy whose `numbers` are tensors, in a graph."""
        bound = self.replace()
        for name, number in zip(self.numbers(), numbers):
            setattr(bound, name, number)
        return bound

    def search_key(self) -> Any:
        """Attacks of equal keys share a compiled search. The loss and the seed come to it from outside."""
        outside = {"loss": None, "seed": 0, "name": None, **dict.fromkeys(self.numbers(), 1.0)}
        return self.replace(**{name: value for name, value in outside.items() if name in self.options()})

    def settings(self) -> dict[str, Any]:
        """Every option that decides a result, as plain values, to write beside a number that the attack gave."""
        options = {name: value for name, value in self.options().items() if name not in ("name", "jit_compile")}
        loss = options.get("loss")
        own_loss = {} if loss is None or isinstance(loss, str) else described_loss(loss)
        return {"class": type(self).__name__, **described({**options, **own_loss})}

    def get_config(self) -> Config:
        return {name: _serialized(value) for name, value in self.options().items()}

    @classmethod
    def from_config(cls, config: Config) -> "Attack":
        config = dict(config)
        if "loss" in config:
            config["loss"] = deserialize_loss(config["loss"])
        if "perturbation" in config:
            config["perturbation"] = keras.saving.deserialize_keras_object(config["perturbation"])
        return cls(**config)

    def __repr__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"{type(self).__name__}({options})"

    def __eq__(self, other):
        return type(self) is type(other) and self._key() == other._key()

    def _key(self):
        """The options as plain values, and perturbations as they are, which know what tells them apart."""
        return {
            name: value if isinstance(value, Perturbation) else _serialized(value)
            for name, value in self.options().items()
        }

    def __hash__(self):
        return hash((type(self), json.dumps(self.get_config(), sort_keys=True, default=str)))

    def __reduce__(self):
        return _made_of, (type(self), self.options())


def _option_names(cls):
    """The arguments of the constructor; where it takes `**options`, those of the class above it, too."""
    owner = next(each for each in cls.__mro__ if "__init__" in vars(each))
    parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
    names = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    handed_on = _option_names(owner.__mro__[1]) if len(names) < len(parameters) else []
    return names + [name for name in handed_on if name not in names]


def expect_untargeted(attack: Attack) -> Attack:
    """Checks that a value is an attack that makes errors; returns it.

    Raises:
      TypeError: if it is no attack.
      ValueError: if it is targeted.
    """
    if expect_instance("attack", attack, Attack).targeted:
        raise ValueError("Expected an untargeted attack, whose success is an error. Received targeted=True.")
    return attack


def _made_of(cls, options):
    return cls(**options)


def _plain_tuple(value):
    # Keras 2 wraps a tuple.
    return tuple(value) if isinstance(value, tuple) else value


def _is_plain(value):
    return value is None or isinstance(value, (bool, int, float, str, tuple))


def _serialized(value):
    return value if _is_plain(value) else keras.saving.serialize_keras_object(value)

"""An attack whose results are known, from a run of its program."""

from keras_flowreg.attacks import Attack, AttackResult
from keras_flowreg.ops.flows import DisplacementStatistics


class KnownAttack(Attack):
    """Stands for an attack in `fr.evaluate_robustness`, with its settings, but looks up what it did.

    Args:
      attack: the attack.
      find: takes its radius and a batch of images; returns what its program said of each image, by name.
    """

    def __init__(self, attack, find):
        super().__init__(loss=attack.loss, seed=attack.seed, value_range=attack.value_range, name=attack.name)
        self.attack, self.find = attack, find

    @property
    def epsilon(self):
        return self.attack.epsilon

    @property
    def perturbation(self):
        return self.attack.perturbation

    def settings(self):
        return self.attack.settings()

    def replace(self, **changes):
        return KnownAttack(self.attack.replace(**changes), self.find)

    def run(self, images, labels, *, model, loss=None, seed=None, stop_when_fooled=True):
        found = self.find(self.epsilon, images)
        statistics = DisplacementStatistics(*(found[name] for name in DisplacementStatistics._fields))
        known = {name: found[name] for name in AttackResult._fields if name in found}
        return AttackResult(**{**dict.fromkeys(AttackResult._fields), **known, "displacement": statistics})

"""Attacks: searches of a threat model, as Keras layers.

base.py says what an attack is, and search.py what a search is made of. A new attack is one new file beside them.
"""

from keras_flowreg.attacks.adef import ADef
from keras_flowreg.attacks.auto_deform import AutoDeform
from keras_flowreg.attacks.base import Attack
from keras_flowreg.attacks.coordinate_ascent import FlowCoordinateAscent
from keras_flowreg.attacks.fgsm import FlowFGSM
from keras_flowreg.attacks.flow_pgd import FlowPGD
from keras_flowreg.attacks.frank_wolfe import FlowFrankWolfe
from keras_flowreg.attacks.intensity_pgd import IntensityPGD
from keras_flowreg.attacks.pgd import PGD
from keras_flowreg.attacks.random_flow import RandomFlow
from keras_flowreg.attacks.rotation_translation import RotationTranslation
from keras_flowreg.attacks.runner import AttackResult
from keras_flowreg.attacks.spsa import FlowSPSA
from keras_flowreg.attacks.square import FlowSquare
from keras_flowreg.attacks.st_adv import StAdv

__all__ = [
    "ADef",
    "Attack",
    "AttackResult",
    "AutoDeform",
    "FlowCoordinateAscent",
    "FlowFGSM",
    "FlowFrankWolfe",
    "FlowPGD",
    "FlowSPSA",
    "FlowSquare",
    "IntensityPGD",
    "PGD",
    "RandomFlow",
    "RotationTranslation",
    "StAdv",
]

"""Ways to explain an answer, to judge explanations, and to attack: the contract's own messages.

from convlens.client.methods import PGD, Deletion, Occlusion, Saliency

client.explain("cat.jpg", [Saliency(), Occlusion(window=16)], measures=[Deletion()])
client.attack("cat.jpg", PGD(epsilon=8 / 255), target="dog")

What is left out takes the default that the contract names; `convlens explain --help-methods` and
`convlens attack --help-methods` list every parameter with its default, its range and its paper.
"""

from dataclasses import dataclass

from convlens.v1.adversarial_pb2 import LeastLikely
from convlens.v1.attack_methods_pb2 import (
    APGD,
    FGSM,
    LBFGS,
    PGD,
    AttackLoss,
    AttackMethod,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    Norm,
    Square,
)
from convlens.v1.explanation_methods_pb2 import (
    Activations,
    ChannelReduction,
    Deconvnet,
    DeconvnetSeed,
    DenseMap,
    ExplanationMethod,
    Fill,
    Filters,
    GradCam,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    MapStrength,
    Occlusion,
    Position,
    Saliency,
    SmoothGrad,
    SmoothGradForm,
    Unpooling,
)
from convlens.v1.explanation_pb2 import ColorScale, Rendering, RenderingStyle
from convlens.v1.network_pb2 import Interpolation
from convlens.v1.quality_pb2 import (
    Completeness,
    Deletion,
    Insertion,
    Localization,
    LocalizationMethod,
    MaxSensitivity,
    ModelRandomization,
    PointingGame,
    QualityMeasure,
    RegionOverlap,
    TrueRegion,
)
from convlens.v1.target_pb2 import Target

__all__ = [
    "APGD",
    "FGSM",
    "LBFGS",
    "PGD",
    "Activations",
    "AttackLoss",
    "AttackMethod",
    "AutoAttack",
    "CarliniWagner",
    "ChannelReduction",
    "ColorScale",
    "Completeness",
    "Deconvnet",
    "DeconvnetSeed",
    "DeepFool",
    "Deletion",
    "DenseMap",
    "ExplanationMethod",
    "Fill",
    "Filters",
    "GradCam",
    "GuidedBackprop",
    "GuidedGradCam",
    "InputXGradient",
    "Insertion",
    "IntegratedGradients",
    "Interpolation",
    "LeastLikely",
    "Localization",
    "LocalizationMethod",
    "MapStrength",
    "MaxSensitivity",
    "ModelRandomization",
    "Norm",
    "Occlusion",
    "PointingGame",
    "Position",
    "QualityMeasure",
    "Rank",
    "RegionOverlap",
    "Rendering",
    "RenderingStyle",
    "Saliency",
    "SmoothGrad",
    "SmoothGradForm",
    "Square",
    "Target",
    "TrueRegion",
    "Unpooling",
]


@dataclass(frozen=True, slots=True)
class Rank:
    """A class by its rank in the network's own answer: 1 is the prediction, 2 the runner-up."""

    rank: int

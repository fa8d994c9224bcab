"""Ways to explain, to judge explanations, to attack, to synthesize: the contract's own messages.

from convlens.client.methods import PGD, ClassModel, Deletion, Occlusion, Saliency

client.explain("cat.jpg", [Saliency(), Occlusion(window=16)], measures=[Deletion()])
client.attack("cat.jpg", PGD(epsilon=8 / 255), target="dog")
client.synthesize_to_end(ClassModel(steps=256), target="cat")

What is left out takes the default that the contract names; `--help-methods` of the commands
`convlens explain`, `convlens attack` and `convlens synthesize` lists every parameter with its
default, its range and its paper.
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
    DeconvnetKeep,
    DenseMap,
    ExplanationMethod,
    Filters,
    GradCam,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    MapStrength,
    Occlusion,
    Saliency,
    SmoothGrad,
    SmoothGradForm,
    Unpooling,
)
from convlens.v1.explanation_pb2 import ColorScale, Rendering, RenderingStyle
from convlens.v1.geometry_pb2 import Position
from convlens.v1.image_pb2 import Fill, Interpolation
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
from convlens.v1.synthesis_methods_pb2 import (
    CanvasStart,
    ClassModel,
    FeatureUnit,
    Fooling,
    FoolingCppn,
    FoolingDirect,
    FoolingGradient,
    Inversion,
    Parametrization,
    Priors,
    SynthesisMethod,
    UnitMaximization,
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
    "CanvasStart",
    "CarliniWagner",
    "ChannelReduction",
    "ClassModel",
    "ColorScale",
    "Completeness",
    "Deconvnet",
    "DeconvnetKeep",
    "DeepFool",
    "Deletion",
    "DenseMap",
    "ExplanationMethod",
    "FeatureUnit",
    "Fill",
    "Filters",
    "Fooling",
    "FoolingCppn",
    "FoolingDirect",
    "FoolingGradient",
    "GradCam",
    "GuidedBackprop",
    "GuidedGradCam",
    "InputXGradient",
    "Insertion",
    "IntegratedGradients",
    "Interpolation",
    "Inversion",
    "LeastLikely",
    "Localization",
    "LocalizationMethod",
    "MapStrength",
    "MaxSensitivity",
    "ModelRandomization",
    "Norm",
    "Occlusion",
    "Parametrization",
    "PointingGame",
    "Position",
    "Priors",
    "QualityMeasure",
    "Rank",
    "RegionOverlap",
    "Rendering",
    "RenderingStyle",
    "Saliency",
    "SmoothGrad",
    "SmoothGradForm",
    "Square",
    "SynthesisMethod",
    "Target",
    "TrueRegion",
    "UnitMaximization",
    "Unpooling",
]


@dataclass(frozen=True, slots=True)
class Rank:
    """A class by its rank in the network's own answer: 1 is the prediction, 2 the runner-up."""

    rank: int

"""The ConvLens SDK: `Client` and `AsyncClient`, what they take, give and raise."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convlens.client._anatomy import (
        Anatomy,
        DesignWarning,
        FieldExtent,
        Layer,
        ReceptiveField,
        TrainingMemory,
    )
    from convlens.client._async_client import AsyncClient
    from convlens.client._attacks import (
        AttackDone,
        AttackEvent,
        AttackItem,
        AttackProgress,
        AttackVerdict,
        Distance,
    )
    from convlens.client._attributions import Attribution, ErrorEstimate, MapGeometry
    from convlens.client._client import Client
    from convlens.client._details import (
        ActivationMap,
        ActivationsDetails,
        DeconvnetDetails,
        DeconvnetPatch,
        FilterPlanes,
        FiltersDetails,
        IntegratedGradientsDetails,
        OcclusionDetails,
    )
    from convlens.client._errors import (
        Aborted,
        AlreadyExists,
        Cancelled,
        ConvLensError,
        DeadlineExceeded,
        FailedPrecondition,
        ImageFileError,
        ImageFileNotFound,
        Internal,
        InvalidImage,
        InvalidRequest,
        MessageTooLarge,
        NotFound,
        Overloaded,
        PermissionDenied,
        QuotaExceeded,
        Unauthenticated,
        Unavailable,
        Unimplemented,
        Violation,
    )
    from convlens.client._explanations import (
        Attributions,
        ExplainDone,
        ExplainEvent,
        ExplainItem,
        ExplainProgress,
        Explanation,
    )
    from convlens.client._features import (
        CodeType,
        Features,
        LayerCode,
        LayerSelection,
        Pooling,
        Removal,
        features_table,
    )
    from convlens.client._images import ArrayLike, Geometry, ImageInput
    from convlens.client._operations import OnError
    from convlens.client._quality import Box, QualityScore, Region
    from convlens.client._results import (
        Accuracy,
        Classification,
        ClassScore,
        Cost,
        Health,
        InputGeometry,
        MethodScore,
        Network,
        NetworkSummary,
        Parity,
        PretrainedWeights,
        Receipt,
    )
    from convlens.client._robustness import (
        ImageRobustness,
        LabeledImage,
        RobustnessDone,
        RobustnessEvent,
        RobustnessItem,
        RobustnessPoint,
        RobustnessProgress,
        SmallestBudget,
    )
    from convlens.client._synthesis import (
        LossTerm,
        PictureProgress,
        SynthesisDone,
        SynthesisEvent,
        SynthesisItem,
        SynthesisPreview,
        SynthesisProgress,
        SynthesizedPicture,
    )

__all__ = [
    "Aborted",
    "Accuracy",
    "ActivationMap",
    "ActivationsDetails",
    "AlreadyExists",
    "Anatomy",
    "ArrayLike",
    "AsyncClient",
    "AttackDone",
    "AttackEvent",
    "AttackItem",
    "AttackProgress",
    "AttackVerdict",
    "Attribution",
    "Attributions",
    "Box",
    "Cancelled",
    "ClassScore",
    "Classification",
    "Client",
    "CodeType",
    "ConvLensError",
    "Cost",
    "DeadlineExceeded",
    "DeconvnetDetails",
    "DeconvnetPatch",
    "DesignWarning",
    "Distance",
    "ErrorEstimate",
    "ExplainDone",
    "ExplainEvent",
    "ExplainItem",
    "ExplainProgress",
    "Explanation",
    "FailedPrecondition",
    "Features",
    "FieldExtent",
    "FilterPlanes",
    "FiltersDetails",
    "Geometry",
    "Health",
    "ImageFileError",
    "ImageFileNotFound",
    "ImageInput",
    "ImageRobustness",
    "InputGeometry",
    "IntegratedGradientsDetails",
    "Internal",
    "InvalidImage",
    "InvalidRequest",
    "LabeledImage",
    "Layer",
    "LayerCode",
    "LayerSelection",
    "LossTerm",
    "MapGeometry",
    "MessageTooLarge",
    "MethodScore",
    "Network",
    "NetworkSummary",
    "NotFound",
    "OcclusionDetails",
    "OnError",
    "Overloaded",
    "Parity",
    "PermissionDenied",
    "PictureProgress",
    "Pooling",
    "PretrainedWeights",
    "QualityScore",
    "QuotaExceeded",
    "Receipt",
    "ReceptiveField",
    "Region",
    "Removal",
    "RobustnessDone",
    "RobustnessEvent",
    "RobustnessItem",
    "RobustnessPoint",
    "RobustnessProgress",
    "SmallestBudget",
    "SynthesisDone",
    "SynthesisEvent",
    "SynthesisItem",
    "SynthesisPreview",
    "SynthesisProgress",
    "SynthesizedPicture",
    "TrainingMemory",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Violation",
    "features_table",
]

HOMES = (
    *("_errors", "_anatomy", "_results", "_features", "_images", "_operations"),
    *("_quality", "_details", "_attributions", "_explanations", "_attacks", "_robustness"),
    *("_synthesis", "_client", "_async_client"),
)


def __getattr__(name: str) -> object:
    """Imports a public name when it is first asked for, so that the command is there at once."""
    if name in __all__:
        for home in HOMES:
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

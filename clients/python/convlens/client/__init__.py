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
    from convlens.client._client import Client
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
        Unauthenticated,
        Unavailable,
        Unimplemented,
        Violation,
    )
    from convlens.client._features import (
        CodeType,
        Features,
        LayerCode,
        LayerSelection,
        Pooling,
        features_table,
    )
    from convlens.client._images import ArrayLike, Geometry, ImageInput
    from convlens.client._operations import OnError
    from convlens.client._results import (
        Accuracy,
        Classification,
        ClassScore,
        Cost,
        Health,
        InputGeometry,
        Network,
        NetworkSummary,
        PretrainedWeights,
        Receipt,
    )

__all__ = [
    "Aborted",
    "Accuracy",
    "AlreadyExists",
    "Anatomy",
    "ArrayLike",
    "AsyncClient",
    "Cancelled",
    "ClassScore",
    "Classification",
    "Client",
    "CodeType",
    "ConvLensError",
    "Cost",
    "DeadlineExceeded",
    "DesignWarning",
    "FailedPrecondition",
    "Features",
    "FieldExtent",
    "Geometry",
    "Health",
    "ImageFileError",
    "ImageFileNotFound",
    "ImageInput",
    "InputGeometry",
    "Internal",
    "InvalidImage",
    "InvalidRequest",
    "Layer",
    "LayerCode",
    "LayerSelection",
    "MessageTooLarge",
    "Network",
    "NetworkSummary",
    "NotFound",
    "OnError",
    "Overloaded",
    "PermissionDenied",
    "Pooling",
    "PretrainedWeights",
    "Receipt",
    "ReceptiveField",
    "TrainingMemory",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Violation",
    "features_table",
]

HOMES = (
    *("_errors", "_anatomy", "_results", "_features", "_images", "_operations"),
    *("_client", "_async_client"),
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

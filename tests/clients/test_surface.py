"""The public names, and what importing them costs."""

import subprocess
import sys
import time
from importlib.resources import files

import pytest

import convlens.client

PUBLIC = [
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
    "RobustnessDone",
    "RobustnessEvent",
    "RobustnessItem",
    "RobustnessPoint",
    "RobustnessProgress",
    "SmallestBudget",
    "SynthesisDone",
    "SynthesisEvent",
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

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "convlens.server", "convlens.workers"):
    sys.modules[name] = None
from convlens.client import *
Client, AsyncClient
"""
WITHOUT_MORE = """
import convlens.client.testing
from convlens.client.cli import _classify, _demo
assert "PIL" not in sys.modules
"""


def test_the_public_names():
    assert sorted(convlens.client.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(convlens.client, name) is not None


def test_every_public_class_says_what_it_is():
    for name in PUBLIC:
        item = getattr(convlens.client, name)
        if isinstance(item, type):
            assert item.__doc__ and not item.__doc__.startswith(name + "(")


def seconds(code: str) -> float:
    """How long Python takes with it; the best of a few, because the machine has other work."""

    def once() -> float:
        started = time.perf_counter()
        command = [sys.executable, "-W", "error", "-c", code]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        return time.perf_counter() - started

    return min(once() for _ in range(4))


def test_importing_takes_little_more_than_what_it_stands_on():
    start = seconds("pass")
    below = seconds("import asyncio, grpc, grpc.aio, numpy, google.protobuf.message")
    assert seconds(WITHOUT_TORCH) - start < 3 * (below - start)


def test_importing_needs_no_torch_and_no_pictures():
    seconds(WITHOUT_TORCH + WITHOUT_MORE)


def test_a_name_is_imported_when_it_is_asked_for():
    before = "import sys, convlens.client as c; assert 'grpc' not in sys.modules; "
    seconds(before + "c.Client; assert 'grpc' in sys.modules; assert 'Client' in dir(c)")
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        getattr(convlens.client, "Cli" + "nt")


def test_the_package_is_typed():
    assert files("convlens.client").joinpath("py.typed").is_file()

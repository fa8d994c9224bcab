"""The public names, and what importing them costs."""

import os
import resource
import subprocess
import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import convlens.client
from convlens.client import studies

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


def test_every_public_name_has_one_home():
    for package in (convlens.client, studies):
        names = [name for home in package.HOMES.values() for name in home]
        assert sorted(names) == sorted(package.__all__)
        for home, own in package.HOMES.items():
            module = import_module(f"{package.__name__}.{home}")
            assert all(getattr(package, name) is getattr(module, name) for name in own)


def test_every_public_class_says_what_it_is():
    for name in PUBLIC:
        item = getattr(convlens.client, name)
        if isinstance(item, type):
            assert item.__doc__ and not item.__doc__.startswith(name + "(")


@pytest.fixture
def seconds(tmp_path: Path):
    """Says how long Python computes for some code; the best of a few, and of the CPU's time.

    Bytecode is kept, as it is for whoever uses a package more than once.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def once(code: str) -> float:
        started = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-W", "error", "-c", code]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert run.returncode == 0, run.stderr
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime

    return lambda code: min(once(code) for _ in range(4))


def test_importing_takes_little_more_than_what_it_stands_on(seconds: Any):
    start = seconds("pass")
    below = seconds("import asyncio, grpc, grpc.aio, numpy, google.protobuf.message")
    assert seconds(WITHOUT_TORCH) - start < 3 * (below - start)


def test_importing_needs_no_torch_and_no_pictures(seconds: Any):
    seconds(WITHOUT_TORCH + WITHOUT_MORE)


def test_a_name_is_imported_when_it_is_asked_for(seconds: Any):
    before = "import sys, convlens.client as c; assert 'grpc' not in sys.modules; "
    seconds(before + "c.Client; assert 'grpc' in sys.modules; assert 'Client' in dir(c)")
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        getattr(convlens.client, "Cli" + "nt")


def test_the_package_is_typed():
    assert files("convlens.client").joinpath("py.typed").is_file()

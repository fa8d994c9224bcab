"""The public names, and what importing them costs."""

import subprocess
import sys
from importlib.resources import files

import convlens.client

PUBLIC = [
    "Aborted",
    "Accuracy",
    "AlreadyExists",
    "ArrayLike",
    "AsyncClient",
    "Cancelled",
    "ClassScore",
    "Classification",
    "Client",
    "ConvLensError",
    "Cost",
    "DeadlineExceeded",
    "FailedPrecondition",
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
    "MessageTooLarge",
    "Network",
    "NetworkSummary",
    "NotFound",
    "OnError",
    "Overloaded",
    "PermissionDenied",
    "Receipt",
    "ReceptiveField",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Violation",
]

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "convlens.server", "convlens.workers"):
    sys.modules[name] = None
import time
started = time.perf_counter()
import convlens.client
print(time.perf_counter() - started)
import convlens.client.cli, convlens.client.testing
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


def test_importing_needs_no_torch_and_no_half_second():
    def once() -> float:
        command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        return float(run.stdout)

    # The best of a few, because other work on the machine is not the import's.
    assert min(once() for _ in range(3)) < 0.5


def test_the_package_is_typed():
    assert files("convlens.client").joinpath("py.typed").is_file()

"""The Triton of the nvidia-pytriton wheel: whether it runs here, and where its parts are."""

import ctypes
import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from convlens.server.engine import EngineError
from convlens.server.triton import proc

WAY_OUT = "use --engine embedded instead"
INSTALL = 'pip install "convlens-server[triton-local]"'
WHEEL = "pip install --no-deps nvidia-pytriton==0.7.0"
STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class Bundle:
    """Where the parts lie. None of them is ever written to."""

    server: Path
    backend: Path
    stub: Path
    libraries: Path
    libpython: Path | None


def check_platform() -> None:
    """Raises EngineError, which names the way out, where the bundled Triton cannot run."""
    find_bundle()
    check_packages()


def find_bundle() -> Bundle:
    """Finds the parts for the running Python; raises EngineError where one is missing."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise EngineError(
            f"triton-local runs on Linux x86-64 only, and this is {system} {machine}: {WAY_OUT}"
        )
    root = _wheel()
    libraries = root.parents[1] / "nvidia_pytriton.libs"
    return Bundle(
        server=root / "bin/tritonserver",
        backend=root / "backends/python",
        stub=_stub(root),
        libraries=libraries,
        libpython=_libpython(libraries),
    )


def check_packages() -> None:
    """Raises EngineError where a package is missing that triton-local needs besides the wheel."""
    needed = ("tritonclient", "convlens.workers")
    if missing := [name for name in needed if find_spec(name) is None]:
        raise EngineError(
            f"triton-local needs {' and '.join(missing)}, which is not installed: "
            f"{INSTALL}, or {WAY_OUT}"
        )


def _wheel() -> Path:
    """The wheel's folder, found without importing the wheel: its own imports fail here."""
    wheel = find_spec("pytriton")
    if not (wheel and wheel.submodule_search_locations):
        raise EngineError(
            f"triton-local needs the bundled Triton, which is not installed: {INSTALL} && {WHEEL} "
            f"(without what that asks for: an older numpy), or {WAY_OUT}"
        )
    return Path(wheel.submodule_search_locations[0]) / "tritonserver"


def _stub(root: Path) -> Path:
    """The program that runs a model: one for each minor version of Python."""
    stubs = root / "python_backend_stubs"
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stub = stubs / running / STUB
    if not stub.is_file():
        minors = sorted(int(found.parent.name[2:]) for found in stubs.glob(f"3.*/{STUB}"))
        has = ", ".join(f"3.{minor}" for minor in minors) or "none"
        raise EngineError(
            f"the bundled Triton has no stub for Python {running} (it has {has}): {WAY_OUT}"
        )
    return stub


def _libpython(bundled: Path) -> Path | None:
    """The Python that the stub loads, or None where the wheel brings that too (as for 3.13).

    Triton itself would not say that it is missing: it would wait for its stub for ever.
    """
    name = libpython_name()
    if any(bundled.glob(name.replace(".", "-*.", 1))):
        return None
    folders = [sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib"]
    found = [file for folder in folders if folder and (file := Path(folder) / name).is_file()]
    found += _loaded(name)
    if not found:
        raise EngineError(
            f"triton-local needs {name}, and this Python comes without it: {WAY_OUT}, "
            "or a Python built with --enable-shared"
        )
    return found[0]


def libpython_name() -> str:
    """The name by which a stub asks for the running Python."""
    return f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


def _loaded(name: str) -> list[Path]:
    """Where the system's loader finds a library."""
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return []
    files = [Path(file) for file in proc.mapped_files(os.getpid()) if Path(file).name == name]
    del library
    return files

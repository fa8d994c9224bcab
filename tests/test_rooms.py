"""The house keeps its order: imports go one way, and only workers need torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "proto": ROOT / "proto",
    "server": ROOT / "server",
    "workers": ROOT / "workers",
    "clients": ROOT / "clients/python",
    "loadtest": ROOT / "clients/loadtest",
}
OWN = {
    "proto": ("convlens.v1", "convlens.contract", "convlens.internal"),
    "server": ("convlens.server",),
    "workers": ("convlens.workers",),
    "clients": ("convlens.client",),
    # A client that knows how the other one connects.
    "loadtest": ("convlens.loadtest", "convlens.client"),
}
# The one door: the embedded engine loads workers, inside its functions, when it starts.
DOOR = "server/convlens/server/embedded.py"


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """Names of modules that a file imports; without `lazy`, only when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types(node)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not lazy and node in inside:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _for_types(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def files(room: str) -> list[Path]:
    return [path for path in ROOMS[room].rglob("*.py") if ".venv" not in path.parts]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    allowed = OWN[room] + OWN["proto"]
    for path in files(room):
        is_door = str(path.relative_to(ROOT)) == DOOR
        for name in imports(path, lazy=not is_door):
            if name.startswith("convlens."):
                assert name.startswith(allowed), f"{path.relative_to(ROOT)} imports {name}"


def test_the_load_generator_knows_the_public_contract_alone() -> None:
    for path in files("loadtest"):
        assert not [n for n in imports(path, lazy=True) if n.startswith("convlens.internal")]


def test_the_door_is_used() -> None:
    assert any(name.startswith("convlens.workers") for name in imports(ROOT / DOOR, lazy=True))


@pytest.mark.parametrize("room", ["proto", "server", "clients", "loadtest"])
def test_torch_stays_with_the_workers(room: str) -> None:
    for path in files(room):
        for name in imports(path, lazy=True):
            assert not name.startswith(("torch", "torchvision")), f"{path} imports {name}"


def test_only_the_triton_model_knows_triton() -> None:
    for room in ROOMS:
        for path in files(room):
            if path.parts[-2:] != ("triton", "pool.py"):
                assert "triton_python_backend_utils" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "module",
    ["convlens.client", "convlens.client.cli", "convlens.server.main", "convlens.contract"],
)
def test_imports_without_torch(module: str) -> None:
    block = "import sys; sys.modules['torch'] = None; sys.modules['torchvision'] = None"
    script = f"{block}; from {module} import *"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_no_init_file_closes_the_namespace() -> None:
    assert list(ROOT.glob("*/convlens/__init__.py")) == []
    assert list(ROOT.glob("clients/*/convlens/__init__.py")) == []

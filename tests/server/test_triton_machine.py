"""triton-local: what it asks of the machine, and what it clears away there."""

import mmap
import os
import platform
import sys
import tomllib
import uuid
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from convlens.server.engine import EngineError
from convlens.server.triton import bundle, shm
from convlens.server.triton.local import check_platform


def test_only_regions_that_nobody_maps_are_removed() -> None:
    stale, live, young = (shm.SHM / shm.PATTERN.replace("*", str(uuid.uuid4())) for _ in range(3))
    try:
        for region in (stale, live, young):
            region.write_bytes(bytes(mmap.PAGESIZE))
        for region in (stale, live):
            os.utime(region, (0, 0))
        with live.open("r+b") as file, mmap.mmap(file.fileno(), 0):
            shm.remove_stale_regions()
            assert [each.exists() for each in (stale, live, young)] == [False, True, True]
        shm.remove_stale_regions()
        assert not live.exists()
    finally:
        shm.remove((stale, live, young))


def test_this_machine_is_fit() -> None:
    check_platform()


def spec_without(missing: str) -> Callable[[str], ModuleSpec | None]:
    return lambda name: None if name == missing else find_spec(name)


@pytest.mark.parametrize(
    ("place", "name", "value", "words"),
    [
        (platform, "system", lambda: "Darwin", "this is Darwin x86_64"),
        (platform, "machine", lambda: "aarch64", "this is Linux aarch64"),
        (bundle, "find_spec", spec_without("pytriton"), "--no-deps nvidia-pytriton==0.7.0 "),
        (bundle, "find_spec", spec_without("tritonclient"), r"tritonclient, .*\[triton-local\]"),
        (
            bundle,
            "find_spec",
            spec_without("convlens.workers"),
            r"convlens\.workers, .*pip install",
        ),
        (sys, "version_info", (3, 14, 1), r"no stub for Python 3\.14 \(it has 3\.8, 3\.9, .*3\.13"),
    ],
)
def test_what_does_not_fit_is_said(
    place: Any, name: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(place, name, value)
        with pytest.raises(EngineError, match=words) as caught:
            check_platform()
    assert "use --engine embedded" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_advice_can_be_followed() -> None:
    """The wheel wants numpy<2 and the workers numpy 2: no extra can have both."""
    root = Path(__file__).parents[2]
    server = tomllib.loads((root / "server/pyproject.toml").read_text(encoding="utf-8"))
    extras = server["project"]["optional-dependencies"]
    assert not any("pytriton" in needed for extra in extras.values() for needed in extra)
    assert "convlens-workers" in extras["triton-local"]
    groups = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    [wheel] = groups["dependency-groups"]["triton"]
    assert wheel.partition(";")[0] == bundle.WHEEL.rpartition(" ")[2]


def test_a_missing_libpython_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "libpython9.9.so.1.0"
    monkeypatch.setattr(bundle, "libpython_name", lambda: name)
    with pytest.raises(EngineError, match=rf"needs {name}.*use --engine embedded"):
        check_platform()


def test_a_libpython_that_the_wheel_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "libpython_name", lambda: "libpython3.13.so.1.0")
    assert bundle.find_bundle().libpython is None


def test_a_libpython_that_only_the_loader_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle.sysconfig, "get_config_var", lambda name: None)
    monkeypatch.setattr(bundle.sys, "base_prefix", "/nowhere")
    found = bundle.find_bundle().libpython
    assert found and found.is_file()

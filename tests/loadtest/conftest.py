"""The command against servers: a real one, and one that does what a test says."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from convlens.client.testing import FakeServer
from convlens.loadtest.cli.program import program
from tests.conftest import RunningServer

Run = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def convlens(servers: Callable[[str], RunningServer]) -> RunningServer:
    """A server with the embedded engine."""
    return servers("embedded")


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server that finds a cat in everything, or does what a test says."""
    with FakeServer(max_workers=64) as server:
        yield server


@pytest.fixture
def invoke() -> Run:
    """Runs the command in this process."""

    def run(*arguments: Any) -> Result:
        return CliRunner().invoke(program, [str(each) for each in arguments])

    return run


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., Path]:
    """Writes a scenario of Classify with these phases."""

    def write(*phases: dict[str, Any], **keys: Any) -> Path:
        path = tmp_path / "mine.yaml"
        calls = {"classify": {"rpc": "Classify"}}
        document = {"calls": calls, "phases": list(phases), **keys}
        # YAML reads JSON.
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts the command as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: Any) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "convlens.loadtest", *map(str, arguments)]
        process = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()

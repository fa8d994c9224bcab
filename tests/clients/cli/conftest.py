"""Ways to run the command: in this process, and as users do."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from convlens.client.cli._program import program


@pytest.fixture
def run(server) -> Callable[..., Result]:
    """Runs the command in this process; it asks the fake server."""

    def invoke(*arguments: Any) -> Result:
        environment = {"CONVLENS_SERVER": server.address}
        return CliRunner().invoke(program, [str(a) for a in arguments], env=environment)

    return invoke


@pytest.fixture
def spawn(server, monkeypatch) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the command as a process of its own; it asks the fake server."""
    monkeypatch.setenv("CONVLENS_SERVER", server.address)

    started: list[subprocess.Popen[str]] = []

    def start(
        *arguments: Any, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
    ) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "convlens.client.cli", *map(str, arguments)]
        started.append(subprocess.Popen(command, text=True, stdout=stdout, stderr=stderr))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder with three pictures, one of them deeper, and a file that is none."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("a.png", "b.JPG", "deep/er/c.webp", "notes.txt"):
        (tmp_path / name).write_bytes(b"a picture")
    return tmp_path

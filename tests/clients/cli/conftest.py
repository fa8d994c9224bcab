"""Ways to run the command: in this process, and as users do."""

import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from fcntl import ioctl
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


@pytest.fixture
def terminal():
    """A terminal of 80 columns: its two ends, and all that was written to it."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    written: list[bytes] = []

    def read() -> None:
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                return
            written.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    yield theirs, written, lambda: (os.close(theirs), reader.join(10))
    os.close(ours)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture, as far as the fake server is concerned."""
    path = tmp_path / "photo.png"
    path.write_bytes(b"a picture")
    return path

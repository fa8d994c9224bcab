"""Ctrl-C and taken addresses while the server starts: a quick end, no traceback, nothing left."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from convlens.server import main as command
from convlens.server.engine import EngineError
from convlens.server.triton import proc, shm
from convlens.server.triton.home import MARK, PREFIX


@contextmanager
def starting(folder: Path, *flags: str) -> Generator[subprocess.Popen[str]]:
    """A server with a process group of its own, as a terminal gives it one, and its own /tmp."""
    ports = ("--listen", "127.0.0.1:0", "--metrics-listen", "off")
    process = subprocess.Popen(
        [sys.executable, "-m", "convlens.server", *ports, *flags],
        env={**os.environ, "TMPDIR": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def interrupted(process: subprocess.Popen[str], times: int = 1) -> tuple[int, str]:
    """Ctrl-C in a terminal: the exit code, and what was said."""
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
    _, error = process.communicate(timeout=10)
    assert "Traceback" not in error
    return process.returncode, error


def marked(folder: Path) -> list[int]:
    """The processes that belong to a server with this /tmp."""
    homes = folder.glob(f"{PREFIX}*")
    return [pid for home in homes for pid in proc.with_variable(MARK, str(home))]


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_interrupt_among_the_imports(tmp_path: Path) -> None:
    with starting(tmp_path) as process:
        wait_for(lambda: any("cygrpc" in file for file in proc.mapped_files(process.pid)))
        assert interrupted(process) == (-signal.SIGINT, "")


def test_an_interrupt_while_triton_is_out_of_reach(tmp_path: Path) -> None:
    flags = ("--engine", "triton", "--triton-url", "127.0.0.1:1", "--log-format", "json")
    with starting(tmp_path, *flags) as process:
        assert process.stderr
        while "out of reach" not in process.stderr.readline():
            pass
        code, error = interrupted(process)
    assert code == 0
    assert "stopping during the start" in error
    assert "no Triton with networks" not in error


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_while_the_repository_is_written(times: int, tmp_path: Path) -> None:
    with starting(tmp_path, "--engine", "triton-local") as process:
        wait_for(lambda: marked(tmp_path))
        [writer] = marked(tmp_path)
        code, error = interrupted(process, times)
    assert "cannot be written" not in error
    assert code == 0 if times == 1 else code in (0, 1)
    wait_for(lambda: proc.mapped_files(writer) == set())
    assert list(tmp_path.iterdir()) == []


def test_two_interrupts_while_triton_starts(tmp_path: Path) -> None:
    with starting(tmp_path, "--engine", "triton-local") as process:
        # The command that writes, and then Triton with its two stubs, which import torch.
        wait_for(lambda: len(marked(tmp_path)) == 3)
        processes = marked(tmp_path)
        regions = shm.regions_of(processes)
        code, _ = interrupted(process, times=2)
    assert code in (0, 1)
    wait_for(lambda: not any(proc.mapped_files(pid) for pid in processes))
    assert list(tmp_path.iterdir()) == []
    assert not any(region.exists() for region in regions)


@pytest.mark.parametrize("flag", ["--listen", "--metrics-listen"])
def test_a_taken_address_is_told_before_anything_is_loaded(flag: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with starting(tmp_path, "--engine", "triton-local", flag, address) as process:
            _, error = process.communicate(timeout=10)
    assert process.returncode == 1
    assert f"convlens-server: cannot listen on {address}: " in error
    # Not a line of Triton's log, and it was not even prepared.
    assert "tritonserver" not in error
    assert "loading" not in error


def test_an_end_that_nothing_helps_against_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = command._engine

    def failing(settings: Any, metrics: Any, ending: command.Ending) -> Any:
        engine: Any = real(settings, metrics, ending)
        start = engine.start

        async def start_and_fail() -> None:
            await start()
            ending.fail(EngineError("Triton was started again 5 times in a row, in vain: x"))

        engine.start = start_and_fail
        return engine

    monkeypatch.setattr(command, "_engine", failing)
    monkeypatch.setattr(command, "configure_logs", lambda *_: None)
    assert command.main(["--listen", "127.0.0.1:0", "--metrics-listen", "off"]) == 1
    assert "convlens-server: Triton was started again 5 times" in capsys.readouterr().err
    structlog.reset_defaults()

"""A server of one's own: a process that lives as long as a `with` block."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import click

SERVER_MODULE = "convlens.server"
# Isolated and without site-packages, because it needs neither.
LEASH = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_leash.py"))]
# Importing torch on a cold disk takes most of it.
START_SECONDS = 120.0
STOP_SECONDS = 15.0
TAIL_LINES = 5


def server_command() -> list[str]:
    """What starts a server with the bundled networks on a free port of this machine."""
    if not _installed(f"{SERVER_MODULE}.__main__"):
        raise click.ClickException(
            "This needs the server; install it with: pip install 'convlens-server[embedded]'."
        )
    listen = ["--listen", "127.0.0.1:0", "--metrics-listen", "off"]
    return [
        *(sys.executable, "-m", SERVER_MODULE),
        *("--engine", "embedded", *listen, "--log-format", "json"),
    ]


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


class EmbeddedServer:
    """Starts `command` and waits until its log says where it serves; ends it with the block.

    On Linux it also ends when this process, or the thread that entered the block, is killed.
    The log is JSON lines on stderr; the one with the event "serving" has the address. Raises
    ClickException where the process dies first or takes longer than `start_seconds`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        start_seconds: float = START_SECONDS,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self.address = ""
        self._stop_seconds = stop_seconds
        self._command = list(command)
        self._start_seconds = start_seconds
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._settled = threading.Event()

    def __enter__(self) -> "EmbeddedServer":
        # In a session of its own, so that Ctrl-C reaches it through us alone, and in order.
        self._process = subprocess.Popen(
            [*LEASH, str(os.getpid()), *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            self._await_address()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def _await_address(self) -> None:
        in_time = self._settled.wait(self._start_seconds)
        if self.address:
            return
        if in_time:
            code = self._process.wait()
            problem = f"The server ended before it was ready, with exit code {code}"
        else:
            problem = f"The server was not ready after {self._start_seconds:g} s"
        tail = "".join(f"\n  | {line}" for line in self._tail)
        raise click.ClickException(f"{problem}; its log ends with:{tail or ' nothing'}")

    def _read_log(self) -> None:
        """Reads to the end, or the server would stand still with a full pipe."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._tail.append(line.rstrip())
            if not self.address and (address := _serving_address(line)):
                self.address = address
                self._settled.set()
        self._settled.set()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


def _serving_address(line: str) -> str:
    try:
        entry: Any = json.loads(line)
        return str(entry["address"]) if entry["event"] == "serving" else ""
    except (ValueError, TypeError, KeyError):
        return ""

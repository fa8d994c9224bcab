"""Starts the bundled Triton beside the server, and ends it with the server."""

import asyncio
import secrets
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc.aio

from convlens.server.engine import EngineError
from convlens.server.triton import proc, shm
from convlens.server.triton.bundle import Bundle, find_bundle
from convlens.server.triton.bundle import check_platform as check_platform
from convlens.server.triton.forward import LogForwarder
from convlens.server.triton.home import Home, clear_homes_of_the_dead
from convlens.server.triton.leash import on_leash

START_SECONDS = 120.0
# For requests under way; the server has drained before it stops us, so these were given up.
EXIT_SECONDS = 5
# Triton counts down in whole seconds, and ends its stubs after that.
KILL_SECONDS = EXIT_SECONDS + 5.0
POLL_SECONDS = 0.05
WATCH_SECONDS = 0.2
READY_SECONDS = 5.0
LOG_SECONDS = 2.0
STUCK_SECONDS = 5.0
PORT_TRIES = 3
TAKEN = "already in use"
RESTRICTED = "model-repository,shared-memory,trace,logging"
KEY = "convlens"


class LocalTriton:
    """One Triton on loopback, with models of a repository loaded: those named, or all.

    Start it in a thread that lives as long as it is wanted: Triton dies with the thread.
    """

    def __init__(self, repository: Path, models: Sequence[str] = ()) -> None:
        self._repository = repository
        self._models = list(models)
        self._secret = secrets.token_hex(16)
        self._grpc_port, self._metrics_port = 0, 0
        self._home: Home | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log: LogForwarder | None = None

    @property
    def address(self) -> str:
        """Where its gRPC service listens."""
        return f"127.0.0.1:{self._grpc_port}"

    @property
    def metrics_address(self) -> str:
        """Where its Prometheus metrics are."""
        return f"127.0.0.1:{self._metrics_port}"

    @property
    def pid(self) -> int:
        """Its process; 0 where none was started."""
        return self._process.pid if self._process else 0

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What calls that load, unload or list models must carry; inference needs none."""
        return [(f"triton-grpc-protocol-{KEY}", self._secret)]

    async def start(self) -> None:
        """Returns when all models are ready; raises EngineError, with the reason, otherwise.

        Another start, after the end, takes the same address again if that is free.
        """
        bundle, models = find_bundle(), self._models or find_models(self._repository)
        clear_homes_of_the_dead()
        shm.remove_stale_regions()
        try:
            for _ in range(PORT_TRIES):
                self._launch(bundle, models)
                if await self._ready():
                    return
                self._grpc_port = self._metrics_port = 0
            raise EngineError("Triton found no free port, though it was offered several")
        except BaseException:
            await self._clear()
            raise

    async def stop(self) -> None:
        """Lets Triton unload its models, then kills what is left and removes its traces."""
        try:
            if self._process and self._process.poll() is None:
                self._process.terminate()
                await _ended(self._process, KILL_SECONDS)
        finally:
            await self._clear()

    async def ended(self) -> int:
        """Waits until Triton ends by itself, clears what it left, and returns its exit code."""
        process = self._process
        assert process
        # Asking also frees its entry in the table of processes. A zombie there would look alive
        # to its stubs, which would stay for ever.
        while process.poll() is None:
            await asyncio.sleep(WATCH_SECONDS)
        await self._clear()
        return process.returncode

    def _launch(self, bundle: Bundle, models: list[str]) -> None:
        self._home = Home(bundle)
        if not self._grpc_port:
            self._grpc_port, self._metrics_port = free_ports()
        self._process = subprocess.Popen(
            on_leash([str(bundle.server), *self._flags(self._home, models)]),
            env=self._home.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal is for the server, which drains before it stops Triton.
            start_new_session=True,
        )
        assert self._process.stdout
        self._log = LogForwarder(self._process.stdout)

    def _flags(self, home: Home, models: list[str]) -> list[str]:
        return [
            f"--model-repository={self._repository}",
            f"--backend-directory={home.backends}",
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in models),
            # Our configurations are complete, and asking a model costs one more start of its stub.
            "--disable-auto-complete-config",
            "--allow-http=false",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self._grpc_port}",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={self._metrics_port}",
            # Loading a model can bring code with it. Users of this machine can read the secret in
            # the list of processes; who only reaches the port cannot.
            f"--grpc-restricted-protocol={RESTRICTED}:{KEY}={self._secret}",
            f"--exit-timeout-secs={EXIT_SECONDS}",
        ]

    async def _ready(self) -> bool:
        """Waits until it answers; False where somebody else took a port in the meantime."""
        process, log = self._process, self._log
        assert process and log
        # Both ports must be this very process's: another Triton would say that it is ready, too.
        ports = {self._grpc_port, self._metrics_port}
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if ports <= proc.listening_ports(process.pid) and await says_ready(self.address):
                return True
            await asyncio.sleep(POLL_SECONDS)
        late = process.poll() is None
        await self._clear()
        reasons = log.reasons()
        if TAKEN in reasons:
            return False
        what = f"was not ready after {START_SECONDS:.0f} s" if late else "did not start"
        raise EngineError(f"Triton {what}:\n{reasons}")

    async def _clear(self) -> None:
        home, process, log = self._home, self._process, self._log
        self._home = self._process = self._log = None
        await asyncio.to_thread(_end, home, process, log)


async def _ended(process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)


def _end(
    home: Home | None, process: subprocess.Popen[bytes] | None, log: LogForwarder | None
) -> None:
    if home:
        home.clear()
    if process:
        # A process that is stuck in a driver does not even die when it is killed.
        with suppress(subprocess.TimeoutExpired):
            process.wait(STUCK_SECONDS)
    if log:
        log.join(LOG_SECONDS)
    # Those of stubs that were dead before Triton was.
    shm.remove_stale_regions()


def find_models(repository: Path) -> list[str]:
    """The names of a repository's models; raises EngineError where there is none."""
    models = sorted(file.parent.name for file in repository.glob("*/config.pbtxt"))
    if not models:
        raise EngineError(f"there is no model in {repository}: no folder has a config.pbtxt")
    return models


def free_ports() -> tuple[int, int]:
    """Two loopback ports that were free a moment ago."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        return one.getsockname()[1], two.getsockname()[1]


async def says_ready(address: str) -> bool:
    """Whether the Triton at an address says that it and its models are ready."""
    # Imported late: whoever lacks it shall get check_platform's sentence, not an ImportError.
    from tritonclient.grpc import service_pb2, service_pb2_grpc  # pyright: ignore[reportMissingTypeStubs]

    messages: Any = service_pb2
    # A proxy of the environment is not for loopback.
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            reply = await stub.ServerReady(messages.ServerReadyRequest(), timeout=READY_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return reply.ready

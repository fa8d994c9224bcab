"""What tests of every room share: a real server, and pictures."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
import yaml

from convlens.server.gateway import Gateway
from convlens.server.main import build
from convlens.server.settings import Settings
from convlens.v1.classification_pb2_grpc import ClassificationServiceStub

# Tests run two at a time, whose torch, if it waited awake, would take the other's cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Who starts the tests in the background has them ignore Ctrl-C, and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PICTURES = Path(__file__).parents[1] / "clients/python/convlens/client/pictures"


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """What a test of the command line makes of the logs ends with it, as its standard error does.

    The servers of the session go on logging.
    """
    config = structlog.get_config()
    yield
    structlog.configure(**config)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)


class RunningServer:
    """A server in a thread of this process, with its event loop, on free loopback ports."""

    def __init__(self, gateway: Gateway, loop: asyncio.AbstractEventLoop) -> None:
        self.gateway = gateway
        self.engine: Any = gateway._engine
        self.engine_name: str = gateway._settings.engine
        self.address = str(gateway.address)
        self.metrics_url = f"http://{gateway.metrics_address}/metrics"
        self._loop = loop

    def channel(self) -> grpc.Channel:
        limit = 2**31 - 1
        return grpc.insecure_channel(
            self.address,
            [("grpc.max_send_message_length", limit), ("grpc.max_receive_message_length", limit)],
        )

    def run(self, coroutine: Any) -> Any:
        """Runs a coroutine on the server's own loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)


@contextmanager
def running_server(
    pools: dict[str, Any] | None = None, **settings: Any
) -> Generator[RunningServer]:
    """Serves while the block runs, with `settings` over free ports and defaults."""
    if pools is not None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "networks.yaml"
            file.write_text(yaml.safe_dump({"pools": pools}))
            with running_server(networks=file, **settings) as server:
                yield server
        return
    given: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", **settings}
    gateway = build(Settings(**given))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(gateway.__aenter__(), loop).result(60)
        try:
            yield RunningServer(gateway, loop)
        finally:
            stop = gateway.__aexit__(None, None, None)
            asyncio.run_coroutine_threadsafe(stop, loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def server_process(*flags: str, **variables: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """`convlens-server` as a process of its own, and its address; never outlives the block.

    It has `variables` in its environment, besides those of the tests.
    """
    command = [sys.executable, "-m", "convlens.server", "--listen", "127.0.0.1:0"]
    command += ["--metrics-listen", "off", "--log-format", "json", *flags]
    environment = os.environ | variables
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        reader: threading.Thread | None = None
        try:
            events = (json.loads(line) for line in process.stderr)
            address = next(event["address"] for event in events if event["event"] == "serving")
            # Nobody reads the log from here on, and a full pipe would stop the server.
            reader = threading.Thread(target=list, args=(process.stderr,))
            reader.start()
            yield process, address
        finally:
            process.kill()
            # Closed only when nobody reads it.
            if reader:
                reader.join(5)


def classification(channel: Any) -> Any:
    """The stub of ClassificationService; types-grpcio knows little of futures and metadata."""
    return ClassificationServiceStub(channel)


ENGINES = ("embedded", "triton-local")


# For what has been shown of Triton by another test: both engines, Triton with the slow ones.
triton_is_slow = pytest.mark.parametrize(
    "server",
    ["embedded", pytest.param("triton-local", marks=pytest.mark.slow)],
    indirect=True,
    scope="session",
)


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], RunningServer]]:
    """The server of an engine, started when it is first wanted; each stays until the end.

    They outlive the parameter of a test, so that files that are given out one by one to several
    processes do not start them again.
    """
    with ExitStack() as stack:

        @cache
        def server(engine: str) -> RunningServer:
            return stack.enter_context(running_server(engine=engine))

        yield server


@pytest.fixture(scope="session", params=ENGINES)
def server(
    request: pytest.FixtureRequest, servers: Callable[[str], RunningServer]
) -> RunningServer:
    """One server of each engine for every test that leaves it as it was."""
    return servers(request.param)


@pytest.fixture(scope="session")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with server.channel() as opened:
        yield opened


@pytest.fixture(scope="session")
def pictures() -> list[Path]:
    """The bundled pictures; the name of each starts with its label."""
    return sorted(PICTURES.glob("*.png"))

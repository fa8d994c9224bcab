"""The servers of the benchmark `echo`, each a process of its own.

`gateway` is the real one, in front of an engine that computes nothing; `quiet` is the same without
a log line for each call; `bare` is grpc.aio alone.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import grpc
import structlog

from convlens.contract.pools import Pool
from convlens.internal.v1.job_pb2 import Job, Reply, Stages
from convlens.server.engine import Engine
from convlens.server.gateway import Gateway
from convlens.server.logs import configure_logs
from convlens.server.main import Ending, serve
from convlens.server.metrics import Metrics
from convlens.server.settings import load_settings
from convlens.v1.classification_pb2 import Classification, ClassifyResponse, ClassifyResult
from convlens.v1.network_pb2 import Network
from convlens.v1.receipt_pb2 import Receipt
from convlens.v1.target_pb2 import ClassScore

PATH = "/convlens.v1.ClassificationService/Classify"
NETWORK = Network(name="resnet18", version="1")

log = structlog.get_logger()


def answer() -> bytes:
    """A Classify response as a worker writes one: five classes and a receipt."""
    classes = [
        ClassScore(class_index=index, label=f"class {index}", probability=0.2, logit=1.5)
        for index in range(5)
    ]
    result = ClassifyResult(classification=Classification(classes=classes))
    receipt = Receipt(network="resnet18", network_version="1", network_digest="0" * 64)
    return ClassifyResponse(results=[result], receipt=receipt).SerializeToString()


class Prepared(Engine):
    """Answers every job at once, with what was prepared or else with the request itself."""

    def __init__(self, prepared: bytes | None) -> None:
        self._prepared = prepared

    async def start(self) -> None:
        """Has nothing to get ready."""

    async def stop(self) -> None:
        """Has nothing to end."""

    def networks(self) -> Sequence[Network]:
        """One, of which nobody asks more than its name."""
        return [NETWORK]

    def can_answer(self, pool: Pool) -> bool:
        """Always."""
        return True

    async def call(self, network: Network, job: Job) -> Reply:
        """The answer, with stages as a worker reports them."""
        response = job.request if self._prepared is None else self._prepared
        return Reply(response=response, stages=Stages(compute_us=1, batch_images=1))

    async def stream(self, network: Network, job: Job) -> AsyncGenerator[Reply, None]:
        """Likewise."""
        yield await self.call(network, job)

    async def load(self, name: str, version: str, traffic_weight: float | None) -> Network:
        """The one that there is."""
        return NETWORK

    async def unload(self, name: str, version: str) -> None:
        """Keeps it."""


FLAGS = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-format", "json")


async def gateway(prepared: bytes | None) -> None:
    """The server as `convlens-server` runs it, every default and its log lines included."""
    configure_logs("json", "info")
    await serve_with(prepared)


async def quiet(prepared: bytes | None) -> None:
    """Likewise, with log lines of problems alone."""
    configure_logs("json", "info")
    # Only once it serves: where it does, the benchmark reads in the log.
    asyncio.get_running_loop().call_later(1.0, configure_logs, "json", "warning")
    await serve_with(prepared)


async def serve_with(prepared: bytes | None) -> None:
    """Serves until SIGTERM."""
    (settings, _), metrics = load_settings(FLAGS), Metrics()
    await serve(Gateway(settings, Prepared(prepared), metrics), settings, Ending())


async def bare(prepared: bytes | None) -> None:
    """A server that does nothing but answer."""

    async def respond(body: bytes, context: object) -> bytes:
        return body if prepared is None else prepared

    service, method = PATH.removeprefix("/").split("/")
    handlers: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(respond)}
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    configure_logs("json", "info")
    log.info("serving", address=f"127.0.0.1:{port}", metrics="off")
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(None)


SERVERS = {"bare": bare, "gateway": gateway, "quiet": quiet}

if __name__ == "__main__":
    _, name, back = sys.argv
    asyncio.run(SERVERS[name](answer() if back == "answer" else None))

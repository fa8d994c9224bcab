"""A Triton behind TLS for the tests of one module, and what they look at it with."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import trustme

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.server.triton import addresses, local
from convlens.server.triton.local import LocalTriton
from convlens.workers.config import Config, Pools
from convlens.workers.triton.repository import write_repository
from tests.conftest import RunningServer
from tests.e2e.test_operations import samples
from tests.e2e.test_pools import canary

NAME = "triton.test"
OTHER_NAME = "other.test"


class TlsTriton(LocalTriton):
    """A Triton of one's own whose gRPC port speaks TLS only."""

    def __init__(self, repository: Path, folder: Path, authority: trustme.CA) -> None:
        super().__init__(repository)
        self._certificate, self._key = folder / "certificate.pem", folder / "key.pem"
        # For the name alone, as certificates are that are made for a service of many servers.
        made = authority.issue_cert(NAME)
        made.cert_chain_pems[0].write_to_path(str(self._certificate))
        made.private_key_pem.write_to_path(str(self._key))

    def _flags(self, home: Any, models: list[str]) -> list[str]:
        tls = ["--grpc-use-ssl=true", f"--grpc-server-cert={self._certificate}"]
        return [*super()._flags(home, models), *tls, f"--grpc-server-key={self._key}"]


@dataclass
class Shared:
    """The Triton, and what a server needs that is to reach it."""

    triton: LocalTriton
    authority: Path

    def settings(self, **other: Any) -> dict[str, Any]:
        port = self.triton.address.rpartition(":")[2]
        [(_, key)] = self.triton.headers
        url = f"{NAME}:{port}"
        return {
            **{"engine": "triton", "triton_url": url, "triton_ca": self.authority},
            **{"triton_key": key, **other},
        }

    def worker(self, pool: str) -> psutil.Process:
        """The process that runs a pool; the newest, where an old one has not ended yet."""
        found = [
            child
            for child in psutil.Process(self.triton.pid).children(recursive=True)
            if child.status() != psutil.STATUS_ZOMBIE and f"-{pool}" in " ".join(child.cmdline())
        ]
        return max(found, key=psutil.Process.create_time)


async def resolve(host: str, port: int) -> list[str]:
    """Both names stand for this machine."""
    assert host in (NAME, OTHER_NAME)
    return [f"127.0.0.1:{port}"]


@contextmanager
def tls_triton(folder: Path, pools: dict[str, Any]) -> Generator[Shared]:
    """Runs while the block does; its names stand for this machine."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    write_repository(Config(pools=Pools.model_validate(pools)), 0, folder / "models")
    triton = TlsTriton(folder / "models", folder, authority)

    async def says_ready(address: str) -> bool:
        trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        named = [("grpc.ssl_target_name_override", NAME)]
        async with grpc.aio.secure_channel(address, trusted, named) as channel:
            call: Any = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
            try:
                return bool(await call(b"", timeout=5))
            except grpc.aio.AioRpcError:
                return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "says_ready", says_ready)
        patch.setattr(addresses, "resolve", resolve)
        asyncio.run(triton.start())
        try:
            yield Shared(triton, folder / "authority.pem")
        finally:
            asyncio.run(triton.stop())


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metric(server: RunningServer, name: str, **labels: str) -> float:
    """A sample of the server's metrics; 0 where there is none yet."""
    return samples(server).get(name + json.dumps(labels, sort_keys=True), 0.0)


async def outcome(engine: Any, task: Any) -> str:
    """How a job of the analysis pool ended: "answered", or the reason."""
    try:
        replies = [reply async for reply in engine.stream(engine.networks()[0], task)]
    except Failure as failure:
        assert failure.retry_after is not None or "DEADLINE" in reason_name(failure.reason)
        return reason_name(failure.reason)
    error = replies[-1].error
    known = Failure.from_status(error) if error.code else None
    return reason_name(known.reason) if known else "answered"


def replica_of(server: RunningServer) -> Any:
    [replica] = server.engine._fleet.replicas()
    return replica


@asynccontextmanager
async def full_pool(engine: Any, seconds: float = 60) -> AsyncGenerator[Any]:
    """Two long jobs over the budget of the analysis pool, and a short one that it keeps waiting.

    What came together with the long ones is computed beside them, so a few short ones may be.
    """
    two = (outcome(engine, canary(100_000, seconds=seconds)) for _ in range(2))
    long = asyncio.gather(*two)
    for _ in range(20):
        short = asyncio.create_task(outcome(engine, canary(1)))
        done, _ = await asyncio.wait({short}, timeout=1)
        if not done:
            break
    else:
        raise AssertionError("the pool goes on taking jobs")
    try:
        yield long, short
    finally:
        long.cancel()
        await asyncio.wait({long, short})

"""A real gateway in front of an engine that computes nothing, and callers of it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import trustme
import yaml
from google.rpc.status_pb2 import Status

from convlens.contract import Failure
from convlens.server.access.tokens import hash_of
from convlens.server.contract import RPCS, Rpc
from convlens.server.gateway import Gateway
from convlens.server.metrics import Metrics
from convlens.server.settings import Settings
from tests.server.quiet_engine import Quiet

CLASSIFY = RPCS["/convlens.v1.ClassificationService/Classify"]
STREAM = RPCS["/convlens.v1.ClassificationService/ClassifyStream"]
LIST = RPCS["/convlens.v1.NetworkService/ListNetworks"]
LIMIT = 2**31 - 1


@asynccontextmanager
async def serving(**settings: Any) -> AsyncGenerator[Gateway]:
    """Serves in this loop while the block runs."""
    free: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "off", "drain_timeout": 0}
    async with Gateway(Settings(**{**free, **settings}), Quiet(), Metrics()) as gateway:
        yield gateway


@asynccontextmanager
async def calling(
    options: Any = (), **settings: Any
) -> AsyncGenerator[tuple[Gateway, grpc.aio.Channel]]:
    """A server, and a channel to it without TLS."""
    async with serving(**settings) as gateway:
        address = str(gateway.address)
        async with grpc.aio.insecure_channel(address, options=list(options)) as channel:
            yield gateway, channel


def entry(token: str, name: str = "lab", scopes: Sequence[str] = ("classify",), **more: Any) -> Any:
    return {"name": name, "sha256": hash_of(token), "scopes": list(scopes), **more}


def write(path: Path, *entries: Any) -> Path:
    """The file of tokens, whole at once as `mv` does it."""
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(list(entries)))
    return new.replace(path)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def ask(
    channel: grpc.aio.Channel,
    rpc: Rpc,
    body: bytes = b"",
    metadata: Any = (),
    timeout: float = 10,
    tries: int = 5,
) -> bytes:
    """The answer to one request; raises Failure where the server sends one of the catalogue."""
    kinds = (("unary_unary", "unary_stream"), ("stream_unary", "stream_stream"))
    call = getattr(channel, kinds[rpc.streams_in][rpc.streams_out])(rpc.path)
    request = _one(body) if rpc.streams_in else body
    try:
        answer = call(request, metadata=metadata, timeout=timeout)
        if rpc.streams_out:
            return b"".join([part async for part in answer])
        return await answer
    except grpc.aio.AioRpcError as error:
        # grpc.aio loses the status of a call that is refused while its request is still written.
        if error.details() == "Internal error from Core" and tries > 1:
            return await ask(channel, rpc, body, metadata, timeout, tries - 1)
        raise failure_of(error) from None


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body


def failure_of(error: grpc.aio.AioRpcError) -> Exception:
    trailing: Any = error.trailing_metadata() or ()
    details = dict(trailing).get("grpc-status-details-bin")
    if details is None:
        return error
    status = Status.FromString(details)
    failure = Failure.from_status(status)
    assert failure
    return failure


async def until(condition: Any, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Files:
    """The TLS files of a server, and what its callers need."""

    def __init__(self, folder: Path, names: Sequence[str] = ("localhost", "127.0.0.1")) -> None:
        self.ca = trustme.CA()
        self.names = names
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self.client_ca = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.client_ca))
        self.renew()

    def renew(self) -> None:
        """A new certificate and key in the place of the old ones."""
        issued = self.ca.issue_cert(*self.names)
        issued.private_key_pem.write_to_path(str(self.key))
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    @property
    def settings(self) -> dict[str, Path]:
        return {"tls_certificate": self.certificate, "tls_key": self.key}

    def credentials(self, shown_by: trustme.CA | None = None) -> grpc.ChannelCredentials:
        """A caller's; with a certificate of the given authority."""
        root = self.client_ca.read_bytes()
        if shown_by is None:
            return grpc.ssl_channel_credentials(root)
        own = shown_by.issue_cert("caller@example.org")
        chain = b"".join(pem.bytes() for pem in own.cert_chain_pems)
        return grpc.ssl_channel_credentials(root, own.private_key_pem.bytes(), chain)

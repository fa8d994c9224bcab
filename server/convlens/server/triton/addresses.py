"""Where Triton servers are, asked again and again."""

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence

import structlog

from convlens.server.settings import Address, parse_address

log = structlog.get_logger(__name__)


class Addresses(ABC):
    """Says at which addresses Triton answers now."""

    @abstractmethod
    async def start(self) -> None:
        """Gets ready to say; raises EngineError."""

    @abstractmethod
    async def current(self) -> dict[str, str]:
        """The addresses, "ip:port", each with the name that it stands for."""

    @property
    @abstractmethod
    def headers(self) -> Sequence[tuple[str, str]]:
        """What calls must carry that list, load or unload models."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends what was started."""


class NamedAddresses(Addresses):
    """Addresses from the settings: "host:port,host:port"; a host may stand for many."""

    def __init__(self, urls: str, headers: Sequence[tuple[str, str]]) -> None:
        self._headers = headers
        self._urls = [parse_address(url.strip()) for url in urls.split(",")]
        self._known: dict[Address, list[str]] = {}

    async def start(self) -> None:
        """Nothing to do."""

    async def current(self) -> dict[str, str]:
        """What the names stand for now.

        A name that cannot be resolved stands for what it stood for last: the servers behind it are
        the better witnesses of whether they are there.
        """
        found: dict[str, str] = {}
        for url in self._urls:
            try:
                self._known[url] = await resolve(url.host, url.port)
            except (OSError, UnicodeError) as error:
                log.warning("name not resolved", name=url.host, error=str(error))
            found.update((address, url.host) for address in self._known.get(url, ()))
        return found

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Those of the settings."""
        return self._headers

    async def stop(self) -> None:
        """Nothing to do."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses "ip:port" that a host stands for; raises OSError, or UnicodeError."""
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(Address(host=str(place[0]), port=int(place[1]))) for *_, place in entries]

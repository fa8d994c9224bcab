"""Where Triton servers are, asked again and again."""

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence


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
        self._urls = [url.strip() for url in urls.split(",") if url.strip()]

    async def start(self) -> None:
        """Nothing to do."""

    async def current(self) -> dict[str, str]:
        """What the names stand for now; a name that cannot be resolved stands for nothing."""
        found: dict[str, str] = {}
        for url in self._urls:
            host, _, port = url.rpartition(":")
            try:
                entries = await asyncio.get_running_loop().getaddrinfo(
                    host.strip("[]"), int(port), type=socket.SOCK_STREAM
                )
            except OSError:
                continue
            for family, _, _, _, place in entries:
                ip = f"[{place[0]}]" if family == socket.AF_INET6 else str(place[0])
                found[f"{ip}:{place[1]}"] = host
        return found

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Those of the settings."""
        return self._headers

    async def stop(self) -> None:
        """Nothing to do."""

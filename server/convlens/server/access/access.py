"""Who may call this server, over which kind of connection."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import grpc

from convlens.server.access.bearers import Bearers
from convlens.server.access.callers import ANYBODY, Caller
from convlens.server.access.files import Followed, Unusable
from convlens.server.access.tls import Certificates
from convlens.server.engine import EngineError
from convlens.server.settings import Settings

LOOK_SECONDS = 1.0


class Access:
    """Knows the callers, and follows the files that say who they are.

    Raises EngineError where one of the files has a mistake.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            self._certificates = _certificates(settings)
            self._bearers = (
                Bearers(settings.tokens, settings.processes) if settings.tokens else None
            )
        except Unusable as error:
            raise EngineError(str(error)) from None

    @property
    def files(self) -> list[Followed[Any]]:
        """The files that are followed; each says by what name, and whether it `is_stale`."""
        parts = (self._certificates, self._bearers)
        return [part.followed for part in parts if part]

    @property
    def expiries(self) -> Mapping[str, float]:
        """When the certificates in the files of settings expire, in seconds since 1970."""
        return self._certificates.expiries if self._certificates else {}

    def expiry(self, setting: str) -> float:
        """Of one setting, as its file says now."""
        return self.expiries[setting]

    def open_port(self, server: grpc.aio.Server, address: str) -> int:
        """Opens a port, with TLS where there is a certificate; the number of it."""
        if self._certificates:
            return server.add_secure_port(address, self._certificates.credentials())
        return server.add_insecure_port(address)

    def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Who calls with this metadata; raises Failure where nobody knows them."""
        return self._bearers.caller(metadata) if self._bearers else ANYBODY

    async def follow(self) -> None:
        """Reads the files again when they change, until cancelled."""
        while self.files:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Reads again the files that changed."""
        for file in self.files:
            # Files may be far away, and calls shall not wait for them.
            if await asyncio.to_thread(file.look) and self._bearers:
                self._bearers.apply()


def _certificates(settings: Settings) -> Certificates | None:
    if not (settings.tls_certificate and settings.tls_key):
        return None
    return Certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)

"""Who calls, and what they may do and use."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from convlens.contract import ErrorReason, Failure
from convlens.server.access.buckets import Bucket
from convlens.server.access.scopes import NEEDED, SCOPES, Scope
from convlens.server.access.tokens import Token
from convlens.server.contract import Rpc

# Seconds' worth of a quota that may be used at once, where the file names no burst.
REQUESTS_AT_ONCE = 1.0
PASSES_AT_ONCE = 10.0
# Seconds that a caller is told to wait at most: a year. A RetryInfo holds no more than 10,000.
LATEST = 365 * 86_400.0


class Account:
    """A name of the tokens file: what it may use, and what it used."""

    def __init__(
        self, entry: Token, processes: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._processes = processes
        self.entry = entry
        # What is valid now; empty where the name is gone from the file.
        self.digests: tuple[str, ...] = ()
        self._clock = clock
        self._requests: Bucket | None = None
        self._passes: Bucket | None = None
        self.change(entry)

    def change(self, entry: Token) -> None:
        """Goes on as the file says now; what was used stays used."""
        self.entry = entry
        self.digests = entry.sha256
        rate = entry.requests_per_second
        burst = entry.requests_burst or max((rate or 0) * REQUESTS_AT_ONCE, 1)
        self._requests = self._bucket(self._requests, rate, burst)
        rate = entry.passes_per_second
        burst = entry.passes_burst or max((rate or 0) * PASSES_AT_ONCE, 1)
        self._passes = self._bucket(self._passes, rate, burst)

    def close(self) -> None:
        """The name is gone from the file."""
        self.digests = ()

    def _bucket(self, bucket: Bucket | None, rate: float | None, burst: float) -> Bucket | None:
        if rate is None:
            return None
        rate, burst = rate / self._processes, max(burst / self._processes, 1)
        if bucket is None:
            return Bucket(rate, burst, self._clock)
        bucket.change(rate, burst)
        return bucket

    def check_scope(self, rpc: Rpc) -> None:
        """Raises Failure PERMISSION_DENIED where the file does not let this name call the RPC."""
        scope = NEEDED[rpc.path]
        if scope is not None and scope not in self.entry.scopes:
            scopes = ", ".join(sorted(self.entry.scopes))
            reason = ErrorReason.ERROR_REASON_PERMISSION_DENIED
            raise Failure(reason, rpc=rpc.name, scope=scope, scopes=scopes)

    def take_request(self) -> None:
        """Counts a request; raises Failure QUOTA_EXCEEDED."""
        if self._requests and (seconds := self._requests.take(1)):
            _refuse(f"{self.entry.requests_per_second:g} requests per second", seconds)

    def take_passes(self, passes: int) -> None:
        """Counts passes of a network; raises Failure QUOTA_EXCEEDED."""
        if self._passes and (seconds := self._passes.take(passes)):
            _refuse(f"{self.entry.passes_per_second:g} passes per second", seconds)

    async def wait_for_request(self) -> None:
        """Counts a request, and waits until it may be made."""
        if self._requests and (seconds := self._requests.borrow(1)):
            await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Caller:
    """Who makes a call, under the name of their token; empty where no tokens are asked for."""

    name: str = ""
    scopes: frozenset[Scope] = frozenset(SCOPES)
    interactive_allowed: bool = True
    account: Account | None = field(default=None, repr=False)
    digest: str = field(default="", repr=False)

    def enter(self, rpc: Rpc) -> None:
        """Counts a call; raises Failure PERMISSION_DENIED or QUOTA_EXCEEDED."""
        if self.account:
            self.account.check_scope(rpc)
            self.account.take_request()

    def charge(self, passes: int) -> None:
        """Takes so many passes of a network from the quota; raises Failure QUOTA_EXCEEDED."""
        if self.account:
            self.account.take_passes(passes)

    async def next_request(self, rpc: Rpc) -> None:
        """One more request of a stream: held back while the quota is used up.

        Raises Failure where the file has changed by now: UNAUTHENTICATED where the token is gone
        from it, PERMISSION_DENIED where its scope is.
        """
        if self.account is None:
            return
        await self.account.wait_for_request()
        if self.digest not in self.account.digests:
            raise unauthenticated("the token was withdrawn")
        self.account.check_scope(rpc)


# Who calls where no tokens are asked for.
ANYBODY = Caller()


def unauthenticated(detail: str) -> Failure:
    """What a caller is told whom nobody knows."""
    return Failure(ErrorReason.ERROR_REASON_UNAUTHENTICATED, detail=detail)


def _refuse(quota: str, seconds: float) -> NoReturn:
    # Rounded up, as the delay travels in milliseconds: nobody shall come back in vain.
    delay = math.ceil(min(seconds, LATEST) * 1000) / 1000
    raise Failure(ErrorReason.ERROR_REASON_QUOTA_EXCEEDED, quota=quota, retry_after=delay)

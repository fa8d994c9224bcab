"""Callers with tokens: found by the token of a call, and followed as the file changes."""

import hmac
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from convlens.server.access.callers import Account, Caller, unauthenticated
from convlens.server.access.files import Followed
from convlens.server.access.tokens import hash_of, read_tokens

HEADER = "authorization"
BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,512})", re.ASCII | re.IGNORECASE)


class Bearers:
    """Everybody who has a token of a file; raises Unusable where that has a mistake.

    Of `processes` that share the callers each gives its share of the quotas.
    """

    def __init__(
        self, path: Path, processes: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._processes = processes
        self.followed = Followed("tokens", [path], lambda: read_tokens(path))
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self.apply()

    def apply(self) -> None:
        """Goes by what the file says now; a name that stays keeps what it used."""
        entries = {entry.name: entry for entry in self.followed.value}
        for name in self._accounts.keys() - entries.keys():
            self._accounts.pop(name).close()
        for name, entry in entries.items():
            if name in self._accounts:
                self._accounts[name].change(entry)
            else:
                self._accounts[name] = Account(entry, self._processes, self._clock)

    def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Who calls; raises Failure UNAUTHENTICATED."""
        digest = hash_of(_token([value for key, value in metadata if key == HEADER]))
        account = self._find(digest)
        if account is None:
            raise unauthenticated("the token is not one that it knows")
        entry = account.entry
        return Caller(entry.name, entry.scopes, not entry.batch_only, account, digest)

    def _find(self, digest: str) -> Account | None:
        """Compares with every hash there is, in the same time whichever it is."""
        found: Account | None = None
        for account in self._accounts.values():
            for known in account.digests:
                if hmac.compare_digest(known, digest):
                    found = account
        return found


def _token(values: Sequence[str | bytes]) -> str:
    if not values:
        raise unauthenticated("it sent no token")
    if len(values) > 1:
        raise unauthenticated(f"'{HEADER}' is there {len(values)} times")
    [value] = values
    match = BEARER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise unauthenticated(f"'{HEADER}' is not 'Bearer TOKEN'")
    return match[1]

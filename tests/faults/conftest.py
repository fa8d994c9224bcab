"""Bad input and faults of every kind, against whole servers.

This folder mirrors no room: what it breaks are the ways between them.
"""

from collections.abc import Iterator

import pytest

from convlens.server.contract import RPCS
from tests.faults.seeds import requests_of
from tests.faults.target import Target, a_target


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """A server that has answered a request of every kind once, and so has what it needs."""
    with a_target() as server:
        for rpc in RPCS.values():
            for messages in requests_of(rpc):
                server.ask_all(rpc, [[message.SerializeToString() for message in messages]])
        yield server

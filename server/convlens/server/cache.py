"""Answers that are kept: what was computed for one caller is there for the next.

An answer depends on the network, the request and nothing else, so that it can be kept as long as
there is room. Failures and partial answers are not.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from cachetools import LRUCache
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from convlens.contract import with_defaults
from convlens.server.admission import is_partial
from convlens.server.contract import Rpc
from convlens.v1.network_pb2 import Network

Compute: TypeAlias = Callable[[], Awaitable[bytes]]

# What an entry takes beside its bytes: its key, and its place in the tables.
OVERHEAD = 200


def key_of(rpc: Rpc, network: Network, request: Message) -> bytes:
    """BLAKE2b-256 of what decides an answer: the RPC, the network, the request with its defaults.

    The network's name in the request is left out, since "shapes" and "shapes@1" may mean the
    same; everything that is told of the network counts, as it may show in an answer.
    """
    canonical = with_defaults(request)
    canonical.ClearField("network")
    state = hashlib.blake2b(digest_size=32)
    told = Network()
    told.CopyFrom(network)
    told.ClearField("anatomy")
    for part in (told, canonical):
        body = part.SerializeToString(deterministic=True)
        state.update(len(body).to_bytes(8, "little") + body)
    state.update(rpc.path.encode())
    return state.digest()


class Cache:
    """Responses by their keys, as many as fit into `size` bytes; the least recently used go first.

    Who asks for what is being computed waits for that.
    """

    def __init__(self, size: int, count: Callable[[str], None]) -> None:
        self._size = size
        self._answers: LRUCache[bytes, bytes] = LRUCache(size, _room)
        self._under_way: dict[bytes, asyncio.Future[bytes | None]] = {}
        self._count = count

    @property
    def size(self) -> int:
        """What is kept, in bytes."""
        return int(self._answers.currsize)

    def keeps(self, request: Message) -> bool:
        """Whether answers to a request are kept: those of every caller, whatever time it has."""
        return self._size > 0 and not is_partial(request)

    async def get(self, key: bytes, rpc: Rpc, compute: Compute) -> bytes:
        """The answer under a key; computed where there is none, and kept where it is whole.

        Of those who wait for one computation each makes its own where that failed, all at once:
        whatever it was that failed may have been of its caller alone, such as a deadline. Where its
        caller left, the next one makes it for all.
        """
        while True:
            if (kept := self._answers.get(key)) is not None:
                self._count("hit")
                return kept
            if (other := self._under_way.get(key)) is None:
                self._count("miss")
                return await self._lead(key, rpc, compute)
            await asyncio.wait({other})
            if other.cancelled():
                continue
            if (shared := other.result()) is not None:
                self._count("shared")
                return shared
            self._count("miss")
            body, _ = await self._keep(key, rpc, compute)
            return body

    async def _lead(self, key: bytes, rpc: Rpc, compute: Compute) -> bytes:
        mine = self._under_way[key] = asyncio.get_running_loop().create_future()
        result: bytes | None = None
        try:
            body, whole = await self._keep(key, rpc, compute)
            result = body if whole else None
            return body
        except asyncio.CancelledError:
            mine.cancel()
            raise
        finally:
            del self._under_way[key]
            if not mine.cancelled():
                mine.set_result(result)

    async def _keep(self, key: bytes, rpc: Rpc, compute: Compute) -> tuple[bytes, bool]:
        """The answer, kept where it is whole, and whether it is."""
        body = await compute()
        whole = is_whole(rpc.response.FromString(body))
        if whole and _room(body) <= self._size:
            self._answers[key] = body
        return body, whole


def _room(body: bytes) -> int:
    return len(body) + OVERHEAD


def is_whole(message: Message) -> bool:
    """Whether an answer holds no failure of any of its parts."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.message_type.full_name == Status.DESCRIPTOR.full_name:
            return False
        parts = value if field.is_repeated else (value,)
        if not all(is_whole(part) for part in parts):
            return False
    return True

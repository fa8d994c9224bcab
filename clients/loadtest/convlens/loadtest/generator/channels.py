"""The connections of a load process."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property
from typing import Any

import grpc
import grpc.aio

from convlens.client._transport import Settings
from convlens.loadtest.traffic.rpcs import Kind


class Connection:
    """One connection, which is closed when it is done with and nobody uses it any more."""

    def __init__(self, settings: Settings) -> None:
        self.address = settings.address
        self.sent = 0
        self.users = 0
        self.is_over = False
        self._settings = settings
        self._calls: dict[str, Any] = {}

    def call(self, kind: Kind, path: str) -> Any:
        """What sends a request to an RPC; requests and answers are bytes."""
        if path not in self._calls:
            of_kind = {
                "unary": self._channel.unary_unary,
                "server_stream": self._channel.unary_stream,
                "stream": self._channel.stream_stream,
            }
            self._calls[path] = of_kind[kind](path)
        return self._calls[path]

    async def close(self) -> None:
        """Ends it, and what is under way on it."""
        if "_channel" in self.__dict__:
            await self._channel.close()

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        # Channels with equal options would share a connection otherwise.
        options = [*self._settings.channel_options(), ("grpc.use_local_subchannel_pool", 1)]
        credentials = self._settings.security.credentials()
        if credentials:
            return grpc.aio.secure_channel(self.address, credentials, options)
        return grpc.aio.insecure_channel(self.address, options)


class Connections:
    """Hands out connections by turns, over all servers, each for so many requests."""

    def __init__(self, servers: Sequence[Settings], count: int, renew_after: int | None) -> None:
        self._servers = servers
        self._renew_after = renew_after
        self._closing: set[asyncio.Task[None]] = set()
        # Every server has one at least.
        total = max(count, len(servers))
        self._open = [Connection(servers[n % len(servers)]) for n in range(total)]
        self._turn = 0
        self.opened = total

    def take(self) -> Connection:
        """The connection whose turn it is; give it back after the call."""
        place = self._turn % len(self._open)
        self._turn += 1
        connection = self._open[place]
        connection.sent += 1
        connection.users += 1
        if self._renew_after and connection.sent >= self._renew_after:
            connection.is_over = True
            self._open[place] = Connection(self._servers[place % len(self._servers)])
            self.opened += 1
        return connection

    def give_back(self, connection: Connection) -> None:
        """Its call is over."""
        connection.users -= 1
        if connection.is_over and not connection.users:
            self._background(connection.close)

    async def close(self) -> None:
        """Ends all of them."""
        await asyncio.gather(*(each.close() for each in self._open), *self._closing)

    def _background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(work())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

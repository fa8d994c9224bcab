"""Both clients behind one face, so that every behaviour is tested on both."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import copy_context
from itertools import islice
from typing import Any

import pytest

from convlens.client import AsyncClient, Client
from convlens.client.testing import FakeServer


class Blocking:
    """Client, as it is."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.client = Client(*args, **options)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.client, method)(*args, **kwargs)

    def stream(
        self,
        source: Any,
        *args: Any,
        method: str = "classify_stream",
        take: int | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        with closing(getattr(self.client, method)(source, *args, **kwargs)) as results:
            yield from islice(results, take)

    def close_client(self) -> None:
        self.client.close()

    def close(self) -> None:
        self.client.close()


class Async:
    """AsyncClient on a loop of its own that runs while somebody waits for it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = AsyncClient(*args, **options)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._run(getattr(self.client, method)(*args, **kwargs))

    def stream(
        self,
        source: Any,
        *args: Any,
        method: str = "classify_stream",
        take: int | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        results = getattr(self.client, method)(source, *args, **kwargs)

        async def following() -> Any:
            return await anext(results)

        try:
            while take is None or take > 0:
                take = None if take is None else take - 1
                yield self._run(following())
        except StopAsyncIteration:
            return
        finally:
            self.runner.run(results.aclose())

    def _run(self, coroutine: Any) -> Any:
        # As where it is awaited, and not where the loop was made.
        return self.runner.run(coroutine, context=copy_context())

    def close_client(self) -> None:
        self.runner.run(self.client.close())

    def close(self) -> None:
        self.close_client()
        self.runner.close()


Connect = Callable[..., Any]


@pytest.fixture(params=[Blocking, Async], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients; they are closed when the test ends."""
    made: list[Any] = []

    def make(*args: Any, **options: Any) -> Any:
        made.append(request.param(*args, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server that finds a cat in everything."""
    with FakeServer() as fake:
        yield fake

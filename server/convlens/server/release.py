"""What an aborted call held is let go of at its end."""

import traceback
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

Request = TypeVar("Request")
Context = TypeVar("Context")
Reply = TypeVar("Reply")


def released(
    answer: Callable[[Request, Context], Awaitable[Reply]],
) -> Callable[[Request, Context], Awaitable[Reply]]:
    """The same answer, of which nothing is left when the call was aborted.

    gRPC keeps the error of an aborted call in a cycle with its frames, and these keep the request
    with its pictures until Python collects its garbage, which a few large calls do not make it do.
    """

    async def run(request: Request, context: Context) -> Reply:
        under_way = answer(request, context)
        del request
        try:
            return await under_way
        except grpc.aio.AbortError as error:
            error.__context__ = None
            traceback.clear_frames(error.__traceback__)
            raise

    return run

"""A client process of the benchmark `echo`: bytes in, bytes out, and as light as grpc.aio lets it.

The request comes on standard input, and the number of answers goes to standard output.
"""

import asyncio
import sys
import time
from typing import Any

import grpc

PATH = "/convlens.v1.ClassificationService/Classify"


async def call_until(address: str, body: bytes, in_flight: int, begin: float, end: float) -> int:
    """Calls without a pause, so many in flight, and counts the answers from `begin` to `end`.

    Times are on `time.monotonic`, which is the same for all processes of a machine.
    """
    counted = 0

    async def caller(channel: Any) -> None:
        nonlocal counted
        call = channel.unary_unary(PATH)
        while (now := time.monotonic()) < end:
            await call(body)
            counted += begin <= now < end

    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.gather(*(caller(channel) for _ in range(in_flight)))
    return counted


if __name__ == "__main__":
    server, *numbers = sys.argv[1:]
    count, first, last = (float(number) for number in numbers)
    print(asyncio.run(call_until(server, sys.stdin.buffer.read(), int(count), first, last)))

"""Callers of Attack and Explain, a process of its own; they write a line for each answer.

python -m benchmarks.crowd ADDRESS CALLERS STEPS
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.common import jpeg_of_60_kb
from convlens.client import AsyncClient
from convlens.client.methods import PGD, GuidedBackprop, IntegratedGradients, SmoothGrad

SECONDS = 600.0


def calls(client: AsyncClient, steps: int) -> list[Callable[[bytes], Awaitable[Any]]]:
    """What the callers ask for, in turn; every step of an attack is run."""
    explained = (
        IntegratedGradients(steps=steps, max_steps=steps),
        SmoothGrad(samples=steps),
        GuidedBackprop(),
    )
    return [
        lambda jpeg: client.attack(jpeg, PGD(steps=steps), stop_at_success=False),
        *(lambda jpeg, method=method: client.explain(jpeg, method) for method in explained),
    ]


async def ask(address: str, callers: int, steps: int) -> None:
    """Each caller asks again as soon as it is answered, until the process is ended."""
    jpeg = jpeg_of_60_kb()

    async def caller(call: Callable[[bytes], Awaitable[Any]]) -> None:
        while True:
            await call(jpeg)
            print("answered", flush=True)

    async with AsyncClient(address, timeout=SECONDS) as client:
        kinds = calls(client, steps)
        await asyncio.gather(*(caller(kinds[n % len(kinds)]) for n in range(callers)))


if __name__ == "__main__":
    where, count, length = sys.argv[1:]
    asyncio.run(ask(where, int(count), int(length)))

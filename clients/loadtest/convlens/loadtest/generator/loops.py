"""Open and closed loops: they decide when what is sent."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from convlens.loadtest.generator.orders import ClosedLoad, Due, OpenLoad, Orders, Stage
from convlens.loadtest.generator.recording import Recorder
from convlens.loadtest.generator.sending import Sender
from convlens.loadtest.traffic.arrivals import arrivals

# Seconds after its end in which a stage's last requests are still sent.
GRACE = 0.1


class Mix:
    """Draws who asks what."""

    def __init__(self, orders: Orders, weights: Mapping[str, float], rng: random.Random) -> None:
        pairs = list[tuple[int, int]]()
        chances = list[float]()
        total = sum(caller.weight for caller in orders.callers)
        for number, caller in enumerate(orders.callers):
            own = caller.weights or weights
            sum_of_own = sum(own.values())
            for place, call in enumerate(orders.calls):
                if chance := own.get(call.name, 0.0) * caller.weight:
                    pairs.append((number, place))
                    chances.append(chance / sum_of_own / total)
        self._pairs = pairs
        self._chances = list(accumulate(chances))
        self._rng = rng

    def draw(self) -> tuple[int, int]:
        """The numbers of a caller and of a call."""
        return self._rng.choices(self._pairs, cum_weights=self._chances)[0]


class Loops:
    """Runs the loads of stages; what they send goes on when they are over."""

    def __init__(self, orders: Orders, recorder: Recorder) -> None:
        self._orders = orders
        self._recorder = recorder
        self.sender = Sender(orders, recorder, random.Random(f"{orders.seed} {orders.number}"))

    async def run(self, stage: Stage) -> None:
        """Sends all that is due in a stage, and waits until all of it has come to its end."""
        await asyncio.gather(*(self._load(stage, n) for n in range(len(stage.loads))))
        self._recorder.ended.append(stage.number)

    async def _load(self, stage: Stage, place: int) -> None:
        load = stage.loads[place]
        seed = (self._orders.seed, self._orders.number, stage.number, place)
        mix = Mix(self._orders, load.weights, random.Random(str(seed)))
        if isinstance(load, OpenLoad):
            await self._open(stage, load, mix, np.random.default_rng(seed))
        else:
            await self._closed(stage, load, mix, random.Random(f"{seed} think"))

    async def _open(self, stage: Stage, load: OpenLoad, mix: Mix, rng: np.random.Generator) -> None:
        part = self._orders.number, self._orders.processes
        calls: set[asyncio.Task[float]] = set()
        for at in arrivals(load.course, load.arrivals, rng, part):
            caller, call = mix.draw()
            due = Due(stage, call, caller, stage.begin + at)
            # Others have their turn even where this loop is behind.
            await asyncio.sleep(max(0.0, due.at - time.monotonic()))
            is_full = self._recorder.in_flight >= self._orders.max_in_flight
            if is_full or time.monotonic() > stage.end + GRACE:
                self._recorder.add_unsent(due)
                continue
            task = asyncio.create_task(self.sender.send(due))
            calls.add(task)
            task.add_done_callback(calls.discard)
        await _ended(list(calls))

    async def _closed(self, stage: Stage, load: ClosedLoad, mix: Mix, rng: random.Random) -> None:
        own = range(self._orders.number, load.callers, self._orders.processes)
        await _ended([asyncio.create_task(self._caller(stage, load, mix, rng)) for _ in own])

    async def _caller(self, stage: Stage, load: ClosedLoad, mix: Mix, rng: random.Random) -> None:
        due = stage.begin
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if due >= stage.end:
                return
            caller, call = mix.draw()
            due = await self.sender.send(Due(stage, call, caller, due))
            if load.think_time:
                is_random = load.think == "exponential"
                due += rng.expovariate(1 / load.think_time) if is_random else load.think_time


async def _ended(tasks: "Sequence[asyncio.Task[Any]]") -> None:
    """Waits for all; one that is cancelled ends the others, and a defect is raised."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()

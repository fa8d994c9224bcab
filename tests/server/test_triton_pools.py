"""Tritons of one pool each: jobs go where their pool is, and pools come and go apart."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.contract.pools import Pool
from convlens.internal.v1.job_pb2 import Job
from convlens.server.triton import addresses, fleet
from convlens.server.triton.addresses import NamedAddresses
from convlens.server.triton.engine import TritonEngine
from convlens.server.triton.lists import Lists
from tests.server.fake_triton import FakeTriton, Told, engine_of


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "REFRESH_SECONDS", 0.02)


@asynccontextmanager
async def tritons(*pools: Sequence[Pool]) -> AsyncGenerator[list[FakeTriton]]:
    """A Triton for each of these, which serves `old@1` and may load `new@1`."""
    async with AsyncExitStack() as stack:
        fakes = [FakeTriton({"old@1": 1.0}, {"new@1": 0.5}, pools=each) for each in pools]
        yield [await stack.enter_async_context(fake.serve()) for fake in fakes]


def job() -> Job:
    return Job(method="X", remaining_us=5_000_000, sent_us=time.monotonic_ns() // 1000)


async def answered(engine: TritonEngine) -> tuple[bytes, bytes]:
    """Who answers a job of either pool."""
    [network] = [each for each in engine.networks() if each.name == "old"]
    [analysed] = [reply async for reply in engine.stream(network, job())]
    return (await engine.call(network, job())).response, analysed.response


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_each_pool_has_tritons_of_its_own() -> None:
    async with tritons(["inference"], ["analysis"]) as fakes, engine_of(Told(*fakes)) as engine:
        await until(lambda: engine.can_answer("inference") and engine.can_answer("analysis"))
        for _ in range(5):
            assert await answered(engine) == (
                b"answered by old@1-inference",
                b"answered by old@1-analysis",
            )
        # Nobody was asked for a model of the other pool, not even to see whether it lives.
        for fake, other in zip(fakes, ("analysis", "inference"), strict=True):
            assert not any(asked.endswith(other) for asked in fake.asked)


async def test_a_pool_that_is_away_takes_only_its_own_jobs_with_it() -> None:
    async with tritons(["inference"], ["analysis"]) as (inference, analysis):
        told = Told(inference)
        async with engine_of(told) as engine:
            [network] = engine.networks()
            assert (engine.can_answer("inference"), engine.can_answer("analysis")) == (True, False)
            assert (await engine.call(network, job())).response
            with pytest.raises(Failure) as caught:
                _ = [reply async for reply in engine.stream(network, job())]
            assert reason_name(caught.value.reason) == "WORKER_UNAVAILABLE"
            assert caught.value.retry_after
            assert not any("X old@1-analysis" in asked for asked in inference.asked)
            told.now.append(analysis.address)
            await until(lambda: engine.can_answer("analysis"))
            assert len(await answered(engine)) == 2
            told.now.remove(inference.address)
            await until(lambda: not engine.can_answer("inference"))
            assert [reply async for reply in engine.stream(network, job())]


async def test_a_network_is_loaded_and_unloaded_in_both_pools() -> None:
    async with tritons(["inference"], ["analysis"]) as fakes, engine_of(Told(*fakes)) as engine:
        await until(lambda: engine.can_answer("analysis"))
        network = await engine.load("new", "1", 3)
        assert network.traffic_weight == 3
        loaded = [sorted(fake.loaded) for fake in fakes]
        assert loaded == [
            ["new@1-inference", "old@1-inference"],
            ["new@1-analysis", "old@1-analysis"],
        ]
        assert {fake.weight(f"new@1-{pool}") for fake in fakes for pool in fake.pools} == {3}
        await engine.unload("new", "1")
        assert [sorted(fake.loaded) for fake in fakes] == [["old@1-inference"], ["old@1-analysis"]]


async def test_a_load_that_fails_in_one_pool_is_undone_in_the_other() -> None:
    async with tritons(["inference"], ["analysis"]) as fakes, engine_of(Told(*fakes)) as engine:
        await until(lambda: engine.can_answer("analysis"))
        fakes[1].failing = {"new@1-analysis"}
        with pytest.raises(Failure) as caught:
            await engine.load("new", "1", None)
        assert reason_name(caught.value.reason) == "NETWORK_NOT_LOADABLE"
        assert [sorted(fake.loaded) for fake in fakes] == [["old@1-inference"], ["old@1-analysis"]]


def shared(got: list[int]) -> bool:
    """Whether ten jobs of each pool went to its pods in equal parts, but for a canary or two."""
    return abs(got[0] - got[1]) <= 2 and got[0] + got[1] == got[2] == 10


async def test_the_pods_behind_a_name_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a headless service: three addresses of loopback, one port, one name a pool."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    names = {"inference": ["127.0.0.1", "127.0.0.2"], "analysis": ["127.0.0.3"]}

    async def resolve(host: str, _: int) -> list[str]:
        return [f"{address}:{port}" for address in names[host]]

    monkeypatch.setattr(addresses, "resolve", resolve)
    pods: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        for pool, hosts in list(names.items()):
            for host in hosts:
                fake = FakeTriton({"old@1": 1.0}, {}, pools=[pool])
                pods[host] = await stack.enter_async_context(fake.serve(f"{host}:{port}"))
        named = NamedAddresses(f"inference:{port},analysis:{port}", [])

        def jobs(host: str) -> int:
            return sum(asked.startswith("X ") for asked in pods[host].asked)

        async with engine_of(named) as engine:

            async def ask(count: int) -> list[int]:
                """How many of these jobs each pod got, of both pools."""
                before = [jobs(host) for host in pods]
                for _ in range(count):
                    await answered(engine)
                return [jobs(host) - was for host, was in zip(pods, before, strict=True)]

            await until(lambda: len(engine._fleet.replicas()) == 3)
            await until(lambda: all(replica.lists for replica in engine._fleet.replicas()))
            assert shared(await ask(10))
            # One leaves the name, with a job under way, which it still answers.
            pods["127.0.0.2"].slow = 0.3
            replicas = {each.address: each for each in engine._fleet.replicas()}
            old = replicas[f"127.0.0.2:{port}"]
            under_way = asyncio.create_task(anext(old.stream("old@1-inference", job())))
            await until(lambda: old.outstanding == 1)
            names["inference"] = ["127.0.0.1"]
            await until(lambda: len(engine._fleet.replicas()) == 2)
            assert await ask(4) == [4, 0, 4]
            assert (await under_way).response
            # It comes back.
            pods["127.0.0.2"].slow = 0.0
            names["inference"].append("127.0.0.2")
            await until(lambda: all(each.reachable for each in engine._fleet.replicas()))
            await until(lambda: len(engine._fleet.replicas()) == 3)
            await until(lambda: all(replica.lists for replica in engine._fleet.replicas()))
            assert shared(await ask(10))


def test_a_repository_says_which_pools_it_has() -> None:
    def lists(text: str) -> Lists:
        return Lists.of({"lists": {"string_value": text}})

    assert lists('{"networks": [], "loadable": []}').pools == ("inference", "analysis")
    one = lists('{"networks": [], "loadable": [], "pools": ["analysis"]}')
    assert one.pools == ("analysis",)

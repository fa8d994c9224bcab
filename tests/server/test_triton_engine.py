"""What the engine makes of Tritons that come, go, break and refuse: on one of a few lines."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.job_pb2 import Job
from convlens.server.admission import Admission, limits_of
from convlens.server.cache import Cache
from convlens.server.contract import RPCS
from convlens.server.dispatch import Dispatcher, Question
from convlens.server.engine import EngineError
from convlens.server.metrics import Metrics
from convlens.server.networks import Networks
from convlens.server.rpc import Call
from convlens.server.settings import Settings
from convlens.server.triton import fleet, jobs, replica
from convlens.server.triton.engine import TritonEngine
from convlens.server.triton.jobs import Asked
from convlens.server.triton.texts import Fault, TritonFault, fault_of_text
from convlens.v1.classification_pb2 import ClassifyRequest
from tests.server.fake_triton import FakeTriton, Told, broken, engine_of

INFERENCE, ANALYSIS = "new@1-inference", "new@1-analysis"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes moments."""
    monkeypatch.setattr(fleet, "REFRESH_SECONDS", 0.02)


@pytest.fixture
async def triton() -> AsyncGenerator[FakeTriton]:
    async with FakeTriton({"old@1": 1.0}, {"new@1": 0.5, "old@2": 1.0}).serve() as fake:
        yield fake


def served(engine: TritonEngine) -> dict[str, float]:
    return {f"{each.name}@{each.version}": each.traffic_weight for each in engine.networks()}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def failure_of(call: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


def job(method: str = "ClassificationService/Classify") -> Job:
    return Job(method=method, remaining_us=5_000_000, sent_us=time.monotonic_ns() // 1000)


async def test_what_was_served_is_unavailable_while_its_triton_is_replaced(
    triton: FakeTriton,
) -> None:
    addresses = Told(triton)
    async with engine_of(addresses) as engine:
        networks = Networks(engine, "", loading=False)
        addresses.now = ["127.0.0.1:9"]
        await until(lambda: engine._fleet.replicas()[0].address == "127.0.0.1:9")
        failure = await failure_of(engine.call(networks.resolve("old", "id"), job()))
        assert reason_name(failure.reason) == "WORKER_UNAVAILABLE"
        assert failure.retry_after
        assert not engine.can_answer("inference")
        # Another repository: what it has not is not served any more.
        async with FakeTriton({"next@1": 1.0}, {}).serve() as other:
            addresses.now = [other.address]
            await until(lambda: served(engine) == {"next@1": 1.0})
        assert reason_name((await failure_of(engine.load("old", "2", None))).reason)


async def test_a_network_of_the_list_that_is_not_loaded_now_is_unavailable() -> None:
    fake = FakeTriton({"old@1": 1.0, "more@1": 1.0}, {})
    async with fake.serve(), engine_of(Told(fake)) as engine:
        del fake.loaded["more@1-inference"]
        [replica] = engine._fleet.replicas()
        await until(lambda: "more@1" not in replica.networks)
        assert list(served(engine)) == ["old@1", "more@1"]
        failure = await failure_of(engine.call(engine.networks()[1], job()))
        assert reason_name(failure.reason) == "WORKER_UNAVAILABLE"
        assert failure.retry_after


async def test_a_network_that_loads_in_part_is_undone_everywhere(triton: FakeTriton) -> None:
    triton.failing = {ANALYSIS}
    async with (
        FakeTriton({"old@1": 1.0}, {"new@1": 0.5}).serve() as other,
        engine_of(Told(triton, other)) as engine,
    ):
        failure = await failure_of(engine.load("new", "1", None))
        assert reason_name(failure.reason) == "NETWORK_NOT_LOADABLE"
        # One line, without the files of the server.
        assert failure.metadata["detail"] == "ValueError: no such layer"
        for each in (triton, other):
            assert set(each.loaded) == {"old@1-inference", "old@1-analysis"}
        assert served(engine) == {"old@1": 1.0}


async def test_a_weight_that_fails_somewhere_is_the_old_one_everywhere(triton: FakeTriton) -> None:
    async with (
        FakeTriton({"old@1": 1.0}, {"new@1": 0.5}).serve() as other,
        engine_of(Told(triton, other)) as engine,
    ):
        await engine.load("new", "1", None)
        other.failing = {INFERENCE}
        await failure_of(engine.load("new", "1", 3))
        assert triton.weight(INFERENCE) == other.weight(INFERENCE) == 0.5
        assert served(engine) == {"old@1": 1.0, "new@1": 0.5}


async def test_nobody_sees_another_weight_than_was_asked_for(triton: FakeTriton) -> None:
    seen = set[float]()
    async with engine_of(Told(triton)) as engine, engine_of(Told(triton)) as beside:

        async def watch() -> None:
            while True:
                seen.update(served(beside).values())
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        triton.gate.clear()
        loading = asyncio.create_task(engine.load("new", "1", 0.25))
        while not loading.done():
            await asyncio.sleep(0.1)
            triton.gate.set()
            await asyncio.sleep(0)
            triton.gate.clear()
        await until(lambda: "new@1" in served(beside))
        watching.cancel()
        assert loading.result().traffic_weight == 0.25
    assert seen == {1.0, 0.25}
    # The analysis pool, which tells no weight, is loaded once.
    assert triton.asked.count(f"load {ANALYSIS}") == 1


async def test_a_load_without_a_weight_has_the_configurations(triton: FakeTriton) -> None:
    async with engine_of(Told(triton)) as engine, engine_of(Told(triton)) as beside:
        assert (await engine.load("new", "1", None)).traffic_weight == 0.5
        assert (await engine.load("new", "1", 3)).traffic_weight == 3
        await until(lambda: "new@1" in served(beside))
        # Another server than that which changed it.
        assert (await beside.load("new", "1", None)).traffic_weight == 0.5
        loads = [each for each in triton.asked if each.startswith("load")]
        assert (await engine.load("new", "1", None)).traffic_weight == 0.5
        assert [each for each in triton.asked if each.startswith("load")] == loads


async def test_a_long_load_holds_up_neither_health_nor_other_changes(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "IDLE_SECONDS", 0.05)
    async with engine_of(Told(triton)) as engine:
        triton.gate.clear()
        loading = asyncio.create_task(engine.load("new", "1", None))
        await until(lambda: f"load {INFERENCE}" in triton.asked)
        before = triton.asked.count("Canary old@1-analysis")
        await until(lambda: triton.asked.count("Canary old@1-analysis") > before + 2)
        await asyncio.wait_for(engine.unload("old", "2"), 1)
        triton.gate.set()
        assert (await loading).name == "new"


async def test_a_load_that_never_ends_is_given_up(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "LOAD_SECONDS", 0.1)
    triton.gate.clear()
    async with engine_of(Told(triton)) as engine:
        failure = await failure_of(engine.load("new", "1", None))
        assert reason_name(failure.reason) == "WORKER_UNAVAILABLE"
        assert "did not load it within" in failure.metadata["detail"]
        assert f"unload {INFERENCE}" in triton.asked


async def test_a_change_ends_with_the_engine(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convlens.server.triton.engine.CHANGE_SECONDS", 0.1)
    triton.gate.clear()
    async with engine_of(Told(triton)) as engine:
        loading = asyncio.create_task(engine.load("new", "1", None))
        await until(lambda: f"load {INFERENCE}" in triton.asked)
    assert not engine._changes
    assert f"unload {INFERENCE}" in triton.asked
    with pytest.raises(asyncio.CancelledError):
        await loading


async def test_who_is_cancelled_in_the_moment_that_a_job_is_lost_is_cancelled() -> None:
    class Waits:
        """A call of gRPC on which nothing comes."""

        def __init__(self) -> None:
            self.over = asyncio.Event()

        async def write(self, message: Any) -> None: ...

        async def done_writing(self) -> None: ...

        def cancel(self) -> None:
            self.over.set()

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            await self.over.wait()
            raise asyncio.CancelledError

    async def ask(asked: Asked) -> None:
        async with aclosing(jobs.answers(asked, "model", Job())) as answers:
            await anext(answers)

    lost, both = Asked(Waits()), Asked(Waits())
    tasks = [asyncio.create_task(ask(each)) for each in (lost, both)]
    await asyncio.sleep(0)
    lost.lose()
    both.lose()
    tasks[1].cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in ended] == [TritonFault, asyncio.CancelledError]


async def test_a_job_that_is_lost_before_it_is_sent_is_told_so(triton: FakeTriton) -> None:
    async with engine_of(Told(triton)) as engine:
        [replica] = engine._fleet.replicas()
        asking = asyncio.create_task(anext(replica.stream("old@1-analysis", job())))
        # As far as the call, which has not begun.
        await asyncio.sleep(0)
        [asked] = replica._models["old@1-analysis"].asked
        asked.lose()
        with pytest.raises(TritonFault):
            await asyncio.wait_for(asking, 2)


@pytest.mark.parametrize(("slow", "cancelled"), [(0.1, False), (30.0, True)])
async def test_a_job_that_nobody_waits_for_ends_by_itself_or_is_cancelled(
    triton: FakeTriton, slow: float, cancelled: bool
) -> None:
    """A cancel that meets the answer would make Triton hold the model for live for ever."""
    async with engine_of(Told(triton)) as engine:
        [replica] = engine._fleet.replicas()
        triton.slow = slow
        asked = job()
        asking = asyncio.create_task(anext(replica.stream("old@1-analysis", asked)))
        while not any("old@1-analysis" in each for each in triton.asked[-1:]):
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert replica.outstanding == 0
        async with asyncio.timeout(5):
            while replica._winding:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert triton.left == ([asked.request_id] if cancelled else [])


async def test_a_worker_that_cannot_compute_any_more_is_healed(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "IDLE_SECONDS", 0.1)
    model = "old@1-inference"

    def until_loaded_twice(name: str, task: Job) -> Any:
        loads = triton.asked.count(f"load {model}")
        return broken() if name == model and task.method != "Describe" and loads < 2 else None

    async with engine_of(Told(triton)) as engine:
        triton.answer = until_loaded_twice
        # It is asked something all the time, and each answer is INTERNAL.
        network, healthy = engine.networks()[0], list[bool]()
        async with asyncio.timeout(5):
            while triton.asked.count(f"load {model}") < 2:
                await engine.call(network, job())
                healthy.append(engine.can_answer("inference"))
                await asyncio.sleep(0.01)
        assert False in healthy
        await until(lambda: engine.can_answer("inference"))
        assert (await engine.call(network, job())).response
        await asyncio.sleep(0.3)
        assert triton.asked.count(f"load {model}") == 2


async def test_a_dead_worker_that_does_not_answer_its_first_canary_is_found(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "IDLE_SECONDS", 0.05)
    async with engine_of(Told(triton)) as engine:
        triton.dead = {"old@1-analysis": 1}
        await until(lambda: "load old@1-analysis" in triton.asked)
        await until(lambda: engine.can_answer("analysis"))


async def test_one_job_that_fails_is_no_reason_to_heal(triton: FakeTriton) -> None:
    triton.answer = lambda model, task: broken() if task.method == "Bad" else None
    async with engine_of(Told(triton)) as engine:
        assert (await engine.call(engine.networks()[0], job("Bad"))).HasField("error")
        await until(lambda: "Canary old@1-inference" in triton.asked)
        await asyncio.sleep(0.1)
        assert not any(each.startswith("load") for each in triton.asked)
        assert engine.can_answer("inference")


async def test_a_changed_order_is_seen_and_networks_are_described_once() -> None:
    fake = FakeTriton({"a@1": 1.0, "b@1": 1.0}, {})
    async with fake.serve(), engine_of(Told(fake)) as engine:
        assert list(served(engine)) == ["a@1", "b@1"]
        await asyncio.sleep(0.2)
        assert fake.asked.count("Describe a@1-inference") == 1
        fake.lists["networks"].reverse()
        for model in list(fake.loaded):
            fake.loaded[model] = fake.file(model)
        await until(lambda: list(served(engine)) == ["b@1", "a@1"])


async def test_a_missing_key_is_said_at_once(triton: FakeTriton) -> None:
    triton.restricted = True
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"the KEY of its --grpc-restricted-.* as triton_key"):
        async with engine_of(Told(triton)):
            pass
    assert time.monotonic() - started < 5


async def test_callers_of_a_version_that_another_server_unloads_get_the_one_that_is_left(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_of(Told(triton)) as engine:
        await engine.load("old", "2", 1_000_000)
        monkeypatch.setattr(fleet, "REFRESH_SECONDS", 60.0)
        await asyncio.sleep(0.1)
        networks = Networks(engine, "", loading=False)
        metrics = Metrics()
        admission = Admission(limits_of(Settings(**{})))
        cache = Cache(0, metrics.count_lookup)
        dispatcher = Dispatcher(engine, networks, admission, cache, metrics, 1 << 20)
        assert networks.resolve("old", "id").version == "2"
        for model in ("old@2-inference", "old@2-analysis"):
            del triton.loaded[model]
        rpc = RPCS["/convlens.v1.ClassificationService/Classify"]
        deadline = time.monotonic() + 5
        call = Call(rpc, "id", deadline, "")
        asked = Question(call, rpc, "old", ClassifyRequest(), b"")
        assert await dispatcher.run(asked) == b"answered by old@1-inference"
        assert served(engine) == {"old@1": 1.0}
        # Who names the version is told that it is gone.
        failure = await failure_of(dispatcher.run(replace(asked, network="old@2")))
        assert reason_name(failure.reason) == "NETWORK_NOT_FOUND"


async def test_a_load_that_another_server_undoes_at_once_may_be_tried_again(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_of(Told(triton)) as engine:

        def unload(model: str, task: Job) -> None:
            if task.method == "Describe" and model == INFERENCE:
                triton.loaded.pop(INFERENCE, None)
                triton.loaded.pop(ANALYSIS, None)

        triton.answer = lambda model, task: unload(model, task) or broken()
        failure = await failure_of(engine.load("new", "1", None))
        assert reason_name(failure.reason) == "WORKER_UNAVAILABLE"
        assert failure.retry_after


@pytest.mark.parametrize(
    ("text", "fault", "reason"),
    [
        (
            "load failed for model 'a@1-inference': version 1 is at UNAVAILABLE state: Internal: "
            "ConfigError: a@1: weights: is not found\n\nAt:\n  /srv/x.py(34): load_network\n;\n",
            Fault.NOT_LOADED,
            "a@1: weights: is not found",
        ),
        (
            "load failed for model 'a@1-inference': version 1 is at UNAVAILABLE state: unloaded;",
            Fault.NOT_READY,
            None,
        ),
        (
            "Failed to increase the shared memory pool size for key 'x' to 67108864 bytes. If you "
            "are running Triton inside docker, use '--shm-size' flag to control the shared memory "
            "region size. Error: No space left on device",
            Fault.NO_ROOM,
            None,
        ),
        ("failed to poll from model repository", Fault.UNKNOWN, None),
    ],
)
def test_what_tritons_texts_mean(text: str, fault: Fault, reason: str | None) -> None:
    found = fault_of_text(text)
    assert found.fault is fault
    assert found.reason == (reason or text)


async def test_a_full_dev_shm_says_when_to_come_back(triton: FakeTriton) -> None:
    triton.full = True
    async with engine_of(Told(triton)) as engine:
        failure = await failure_of(engine.call(engine.networks()[0], job()))
        assert reason_name(failure.reason) == "QUEUE_FULL"
        assert failure.retry_after

"""One Triton behind TLS: what it is trusted with, its health by service, its bounds, its words."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.server.engine import EngineError
from convlens.server.triton.texts import Fault, TritonFault
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from tests.conftest import ENGINES, RunningServer, classification, running_server
from tests.e2e.shared_triton import (
    OTHER_NAME,
    Shared,
    full_pool,
    metric,
    outcome,
    replica_of,
    tls_triton,
    wait_until,
)
from tests.e2e.test_pools import canary, job, last

# Of which each job counts for one: two are more.
BUDGET = 1
WAITING = 6
POOLS = {"analysis": {"budget": BUDGET, "queue_size": WAITING, "max_batch": WAITING}}
INFERENCE, ANALYSIS = "shapes@1-inference", "shapes@1-analysis"
CLASSIFICATION = "convlens.v1.ClassificationService"
EXPLANATION = "convlens.v1.ExplanationService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with tls_triton(tmp_path_factory.mktemp("triton"), POOLS) as triton:
        yield triton


@pytest.fixture(scope="module")
def front(shared: Shared) -> Iterator[RunningServer]:
    """A server that reaches the shared Triton by its name."""
    with running_server(**shared.settings()) as server:
        yield server


@pytest.fixture(params=ENGINES)
def bounded(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server of each engine whose analysis pool is small."""
    if request.param != "embedded":
        yield request.getfixturevalue("front")
        return
    with running_server(POOLS) as server:
        yield server


@pytest.fixture(scope="module")
def request_(pictures: list[Path]) -> ClassifyRequest:
    return ClassifyRequest(images=[Image(encoded=pictures[0].read_bytes())])


def label(response: Any) -> str:
    return response.results[0].classification.classes[0].label


def test_a_pool_over_its_budget_takes_no_more_and_its_queue_is_the_bound(
    bounded: RunningServer,
) -> None:
    async def crowd() -> tuple[list[str], list[str]]:
        async with full_pool(bounded.engine) as (long, short):
            crowd = [asyncio.create_task(outcome(bounded.engine, canary(1))) for _ in range(40)]
            await asyncio.wait([*crowd, short], timeout=1)
            early = [task.result() for task in (*crowd, short) if task.done()]
            long.cancel()
            return early, list(await asyncio.wait_for(asyncio.gather(*crowd, short), 10))

    early, outcomes = bounded.run(crowd())
    assert set(early) == {"QUEUE_FULL"}
    assert set(outcomes) == {"QUEUE_FULL", "answered"}
    # One batch may stand between Triton's queue and the worker.
    assert WAITING <= outcomes.count("answered") <= 2 * WAITING + 1


def test_a_job_out_of_time_gives_its_place_to_those_who_wait(bounded: RunningServer) -> None:
    async def wait() -> tuple[str, str]:
        async with full_pool(bounded.engine, seconds=3) as (long, short):
            [first, _] = await asyncio.wait_for(long, 10)
            return first, await asyncio.wait_for(short, 10)

    # The short job could not have been answered before the 100 000 passes, which take minutes.
    assert bounded.run(wait()) == ("DEADLINE_EXCEEDED", "answered")


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_a_job_that_comes_too_late_is_told_so(bounded: RunningServer, seconds: float) -> None:
    task = outcome(bounded.engine, canary(1, seconds=seconds))
    assert bounded.run(task) == "DEADLINE_EXCEEDED"


def test_a_broken_job_does_not_touch_those_that_are_handed_over_with_it(
    bounded: RunningServer,
) -> None:
    async def together() -> list[str]:
        async with full_pool(bounded.engine) as (long, short):
            jobs = [canary(2), job("Nonsense", b""), job("Canary", b"\xff\xff"), canary(3)]
            waiting = [asyncio.create_task(outcome(bounded.engine, task)) for task in jobs]
            await asyncio.wait([*waiting, short], timeout=0.3)
            assert not any(task.done() for task in (*waiting, short))
            long.cancel()
            return list(await asyncio.wait_for(asyncio.gather(*waiting, short), 10))

    outcomes = bounded.run(together())
    assert outcomes == ["answered", "NOT_IMPLEMENTED", "INTERNAL", "answered", "answered"]


class NoJob:
    """Bytes in the place of a job that are none."""

    remaining_us = 10_000_000
    request_id = method = "test"
    traceparent = ""

    def SerializeToString(self) -> bytes:
        return b"\xff\xff\xff"


def test_bytes_that_are_no_job_do_not_touch_those_that_are_handed_over_with_them(
    front: RunningServer,
) -> None:
    async def together() -> list[str]:
        async with full_pool(front.engine) as (long, short):
            jobs = [canary(2), NoJob(), canary(3)]
            waiting = [asyncio.create_task(outcome(front.engine, task)) for task in jobs]
            await asyncio.wait([*waiting, short], timeout=0.3)
            long.cancel()
            return list(await asyncio.wait_for(asyncio.gather(*waiting), 10))

    assert front.run(together()) == ["answered", "MALFORMED_MESSAGE", "answered"]

    async def inference() -> str:
        reply = await last(replica_of(front).stream(INFERENCE, NoJob()))
        failure = Failure.from_status(reply.error)
        return reason_name(failure.reason) if failure else "answered"

    assert front.run(inference()) == "MALFORMED_MESSAGE"


async def fault_of(call: Any) -> TritonFault:
    try:
        await call
    except TritonFault as fault:
        return fault
    raise AssertionError("Triton took the job")


def test_the_words_of_triton_itself(front: RunningServer) -> None:
    async def collect() -> set[tuple[Fault, str]]:
        replica = replica_of(front)
        models = ("other@1-inference", "other@1-analysis")
        faults = [await fault_of(last(replica.stream(model, canary(1)))) for model in models]
        return {(fault.fault, fault.text.rpartition("] ")[2]) for fault in faults}

    assert front.run(collect()) == {
        (Fault.NOT_READY, "Request for unknown model: 'other@1-inference' is not found"),
        (Fault.NOT_READY, "Request for unknown model: 'other@1-analysis' is not found"),
    }


def test_calls_whose_callers_gave_up_end(
    front: RunningServer, shared: Shared, request_: ClassifyRequest
) -> None:
    pid = shared.triton.pid
    many = ClassifyRequest(images=list(request_.images) * 64)
    with front.channel() as channel:
        stub = classification(channel)
        calls = [stub.Classify.future(many, timeout=0.02 * i) for i in range(1, 17)]
        codes = {error.code() for call in calls if (error := call.exception(20))}
        # Some may be told at the door that they would come too late.
        hopeless = {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert codes - hopeless == {grpc.StatusCode.DEADLINE_EXCEEDED}
        wait_until(lambda: replica_of(front).outstanding == 0)
        assert label(stub.Classify(request_, timeout=20)) == "arrow"
    assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    assert shared.triton.pid == pid


@pytest.mark.parametrize("crowd", [2, 3, 6])
def test_nobody_in_a_small_crowd_waits_for_half_a_second(
    crowd: int, front: RunningServer, request_: ClassifyRequest
) -> None:
    """Triton's own batcher let one call of five wait for 0.5 s (docs/decisions/0010)."""

    async def rounds() -> list[float]:
        network = front.engine.networks()[0]

        async def one(wait: float) -> float:
            await asyncio.sleep(wait)
            started = time.monotonic()
            await front.engine.call(network, canary(5))
            return time.monotonic() - started

        seconds = list[float]()
        for _ in range(15):
            seconds += await asyncio.gather(*(one(0.003 * i) for i in range(crowd)))
        return sorted(seconds)

    seconds = front.run(rounds())
    # A job takes some 20 ms; a busy machine may hold up a few for longer.
    assert seconds[len(seconds) * 9 // 10] < 0.45


@pytest.mark.parametrize(
    ("pool", "service", "other"),
    [
        ("analysis", EXPLANATION, CLASSIFICATION),
        pytest.param("inference", CLASSIFICATION, EXPLANATION, marks=pytest.mark.slow),
    ],
)
def test_exactly_the_services_of_a_dead_pool_do_not_serve(
    pool: str,
    service: str,
    other: str,
    front: RunningServer,
    shared: Shared,
    request_: ClassifyRequest,
) -> None:
    # ExplanationService is told of before it is built: its pool is here already.
    if EXPLANATION not in front.gateway._services:
        front.gateway._services.append(EXPLANATION)
    model, others = f"shapes@1-{pool}", set[int]()
    with front.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)

        def check(name: str) -> int:
            return health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status

        def look(status: int) -> bool:
            others.add(check(other))
            return check(service) == status

        def known() -> bool:
            try:
                return check(EXPLANATION) == check(CLASSIFICATION) == SERVING
            except grpc.RpcError:
                return False

        wait_until(known)
        before = metric(front, "convlens_triton_healings_total", model=model, outcome="healed")
        shared.worker(pool).kill()
        call = classification(channel).Classify.future(request_, timeout=20)
        if pool == "inference":
            fault = front.run(fault_of(last(replica_of(front).stream(model, canary(1)))))
            # Its own word, or that of who met the dead worker before it.
            said = (f"Stub process '{model}_0_0' is not healthy.", "the worker died")
            assert fault.text in said
        # Nobody calls the analysis pool: its canary finds out.
        wait_until(lambda: look(NOT_SERVING))
        wait_until(lambda: look(SERVING))
        assert label(call.result(20)) == "arrow"
    assert others == {SERVING}
    assert metric(front, "convlens_triton_dead_worker_reports_total", model=model) >= 1
    healed = metric(front, "convlens_triton_healings_total", model=model, outcome="healed")
    assert healed == before + 1
    if pool == "inference":
        # The call met the dead worker, waited for the healing and was tried once more.
        assert metric(front, "convlens_triton_retries_total", place="same") >= 1


def test_classify_over_tls(front: RunningServer, request_: ClassifyRequest) -> None:
    with front.channel() as channel:
        assert label(classification(channel).Classify(request_, timeout=20)) == "arrow"


def test_an_authority_that_did_not_sign_is_said_at_once(shared: Shared, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    trustme.CA().cert_pem.write_to_path(str(wrong))
    started = time.monotonic()
    with pytest.raises(EngineError) as caught, running_server(**shared.settings(triton_ca=wrong)):
        pass
    assert f"{shared.triton.address} (its certificate is not signed by" in str(caught.value)
    assert "give the file with the certificate of the authority" in str(caught.value)
    assert time.monotonic() - started < 10


def test_a_certificate_for_another_name_is_said_at_once(shared: Shared) -> None:
    url = f"{OTHER_NAME}:{shared.triton.address.rpartition(':')[2]}"
    said = pytest.raises(EngineError, match="is for another name: write one of the names")
    with said, running_server(**shared.settings(triton_url=url)):
        pass


def test_a_wrong_key_is_said_at_once(shared: Shared) -> None:
    started = time.monotonic()
    said = pytest.raises(EngineError, match="the KEY of its --grpc-restricted-")
    with said, running_server(**shared.settings(triton_key="wrong")):
        pass
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("pool", [pytest.param("inference", marks=pytest.mark.slow), "analysis"])
def test_jobs_under_way_in_a_dead_worker_are_computed_again(
    pool: str, front: RunningServer, shared: Shared
) -> None:
    """Triton tells nobody that waits; what waits for a dead worker would wait for ever."""

    async def outlive() -> str:
        engine, task = front.engine, canary(400)
        network = engine.networks()[0]
        unary = pool == "inference"
        answer = engine.call(network, task) if unary else last(engine.stream(network, task))
        under_way = asyncio.ensure_future(answer)
        await asyncio.sleep(0.5)
        shared.worker(pool).kill()
        reply = await asyncio.wait_for(under_way, 40)
        return "failed" if reply.HasField("error") else "answered"

    assert front.run(outlive()) == "answered"

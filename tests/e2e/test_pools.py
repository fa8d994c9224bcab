"""What both engines promise of their pools: turns and deadlines."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.canary_pb2 import CanaryRequest, CanaryResponse
from convlens.internal.v1.job_pb2 import Job
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyResponse
from convlens.v1.image_pb2 import Image
from tests.conftest import RunningServer


def job(method: str, request: bytes, *, seconds: float = 30, offset: float = 0) -> Job:
    """A job as a server sends it whose clock is `offset` seconds behind the worker's."""
    return Job(
        request_id="test",
        method=method,
        request=request,
        remaining_us=round(seconds * 1e6),
        sent_us=round((time.monotonic() - offset) * 1e6),
        clock=f"clock {offset}",
    )


def canary(passes: int, **options: float) -> Job:
    return job("Canary", CanaryRequest(passes=passes).SerializeToString(), **options)


async def last(replies: Any) -> Any:
    return [reply async for reply in replies][-1]


async def analyse(engine: Any, task: Job) -> tuple[Any, float]:
    """The last reply of a job of the analysis pool, and the seconds that it took."""
    started = time.monotonic()
    replies = [reply async for reply in engine.stream(engine.networks()[0], task)]
    return replies[-1], time.monotonic() - started


def test_a_short_job_beside_a_long_one_is_answered_at_its_own_time(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def both() -> tuple[float, float]:
        long = asyncio.create_task(analyse(server.engine, canary(300)))
        await asyncio.sleep(0.3)
        _, short_seconds = await analyse(server.engine, canary(2))
        reply, long_seconds = await long
        assert CanaryResponse.FromString(reply.response).passes == 300
        return short_seconds, long_seconds

    short, long = server.run(both())
    with capsys.disabled():
        print(f"\n{server.engine_name}: 2 passes in {short:.3f} s beside 300 in {long:.3f} s")
    assert short < long / 4


def test_a_job_whose_time_is_over_is_told_so_and_not_begun(
    server: RunningServer, image: Image
) -> None:
    body = ClassifyRequest(images=[image]).SerializeToString()
    engine = server.engine
    late = job("ClassificationService/Classify", body, seconds=-1)
    try:
        failure = Failure.from_status(server.run(engine.call(engine.networks()[0], late)).error)
    except Failure as error:
        # Triton may notice it in its queue.
        failure = error
    assert failure is not None
    assert reason_name(failure.reason) == "DEADLINE_EXCEEDED"
    assert failure.metadata["stage"] in ("before the work began", "in the queue")


def test_a_deadline_ends_a_job_between_passes(server: RunningServer) -> None:
    reply, seconds = server.run(analyse(server.engine, canary(50_000, seconds=0.5)))
    failure = Failure.from_status(reply.error)
    assert failure is not None
    assert reason_name(failure.reason) == "DEADLINE_EXCEEDED"
    assert seconds < 5


@pytest.mark.parametrize("offset", [-3600.0, 3600.0])
def test_clocks_that_differ_by_an_hour_do_no_harm(
    server: RunningServer, offset: float, image: Image
) -> None:
    body = ClassifyRequest(images=[image]).SerializeToString()
    for _ in range(2):
        task = job("ClassificationService/Classify", body, seconds=5, offset=offset)
        reply = server.run(server.engine.call(server.engine.networks()[0], task))
        assert ClassifyResponse.FromString(reply.response).results


@pytest.fixture(scope="module")
def image(pictures: list[Path]) -> Image:
    return Image(encoded=pictures[0].read_bytes())

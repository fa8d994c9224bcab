"""What Triton gets to know of a trace."""

import time
from typing import Any

import pytest

from convlens.internal.v1.job_pb2 import Job
from convlens.server.networks import Networks
from tests.server.fake_triton import FakeTriton, Told, engine_of
from tests.server.tracing.staged import parent


class Noting(FakeTriton):
    """Notes the traceparents of jobs, beside what they are."""

    def __init__(self) -> None:
        super().__init__({"old@1": 1.0}, {})
        self.parents: list[str | None] = []

    async def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        self.parents.append(dict(context.invocation_metadata()).get("traceparent"))
        answers: Any = super().ModelStreamInfer(requests, context)
        async for message in answers:
            yield message


@pytest.mark.parametrize("given", [parent()[0][1], parent("00")[0][1], parent("02")[0][1], ""])
async def test_a_job_goes_to_triton_with_its_trace_if_that_is_sampled(given: str) -> None:
    async with Noting().serve() as triton, engine_of(Told(triton)) as engine:
        network = Networks(engine, "", loading=False).resolve("old", "id")
        now = time.monotonic_ns() // 1000
        job = Job(method="Classify", remaining_us=5_000_000, sent_us=now, traceparent=given)
        await engine.call(network, job)
        # The others are the server's own questions.
        assert [each for each in triton.parents if each] == ([given] if given[-2:] == "01" else [])

"""A Triton that ends while a job is being sent to it: the fault can be tried again."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from convlens.internal.v1.job_pb2 import Job
from convlens.server.triton.jobs import Asked, answers, begin
from convlens.server.triton.texts import Fault, TritonFault

stubs: Any = service_pb2_grpc
# More than the windows of HTTP/2 let through to somebody who does not read.
LARGE = 32 * 2**20


class Deaf(stubs.GRPCInferenceServiceServicer):
    """Takes jobs and never reads them."""

    async def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        await asyncio.Event().wait()


def job(size: int) -> Job:
    now = time.monotonic_ns() // 1000
    return Job(method="M", request=bytes(size), remaining_us=20_000_000, sent_us=now)


async def fault_of(asked: Asked, sent: Job) -> TritonFault:
    with pytest.raises(TritonFault) as caught:
        await anext(answers(asked, "model", sent))
    return caught.value


async def test_a_job_half_sent_to_a_triton_that_ends_may_be_tried_again() -> None:
    server = grpc.aio.server()
    stubs.add_GRPCInferenceServiceServicer_to_server(Deaf(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        sent = job(LARGE)
        asked = Asked(begin(stubs.GRPCInferenceServiceStub(channel), sent))
        failing = asyncio.create_task(fault_of(asked, sent))
        await asyncio.sleep(0.3)
        assert not asked.sent
        await server.stop(0)
        fault = await failing
    assert fault.fault is Fault.OUT_OF_REACH
    assert fault.retry


async def test_a_job_sent_in_the_moment_that_its_triton_ends_may_be_tried_again() -> None:
    """In that moment gRPC says only that its own core failed, in one of two ways."""

    class Ending:
        """A call whose connection breaks while `step` is under way."""

        def __init__(self, step: str) -> None:
            self.step = step

        async def write(self, request: Any) -> None:
            if self.step == "write":
                metadata = grpc.aio.Metadata()
                code, text = grpc.StatusCode.INTERNAL, "Internal error from Core"
                raise grpc.aio.AioRpcError(code, metadata, metadata, text, "Failed execute_batch")

        async def done_writing(self) -> None:
            raise grpc.aio.InternalError("Failed execute_batch")

    for step in ("write", "done_writing"):
        fault = await fault_of(Asked(Ending(step)), job(1))
        assert fault.fault is Fault.OUT_OF_REACH, step

"""A job on its way through Triton: one gRPC stream, which ends when its caller leaves."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from tritonclient.grpc import service_pb2  # pyright: ignore[reportMissingTypeStubs]

from convlens.contract import ErrorReason, Failure
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.dispatch import CLOCK
from convlens.server.triton.texts import (
    Fault,
    TritonFault,
    fault_of_error,
    fault_of_status,
    fault_of_text,
)

# An answer that is waited for.
Following: TypeAlias = "asyncio.Future[Any]"
# How long a job that nobody waits for any more may go on.
GRACE_SECONDS = 0.25
# What a worker says that may have to be loaded again.
BROKEN = frozenset({ErrorReason.ERROR_REASON_INTERNAL, ErrorReason.ERROR_REASON_OUT_OF_MEMORY})
# Triton's own messages, which come without types.
triton: Any = service_pb2


@dataclass(eq=False)
class Asked:
    """A job that was sent. It is lost if a worker of its model died before the last answer."""

    call: Any
    sent: bool = False
    lost: bool = False
    answered: bool = False

    def lose(self) -> None:
        """Ends it: a dead worker answers nobody, and Triton does not tell those who wait."""
        self.lost = True
        # gRPC never wakes who writes to a call that is cancelled before it has begun.
        if self.sent:
            self.call.cancel()


def begin(stub: Any, job: Job) -> Any:
    """The stream of a job; a Triton that traces goes on with the job's trace, if it is sampled.

    Triton itself does not look at that, and would trace each job that comes with a traceparent.
    """
    is_sampled = job.traceparent and int(job.traceparent[-2:], 16) & 1
    metadata = (("traceparent", job.traceparent),) if is_sampled else None
    return stub.ModelStreamInfer(timeout=max(0, job.remaining_us) / 1e6 + 1, metadata=metadata)


async def answers(asked: Asked, model: str, job: Job) -> AsyncGenerator[Any, None]:
    """Triton's answers to a job; raises TritonFault."""
    try:
        await asked.call.write(_request(model, job))
        asked.sent = True
        if asked.lost:
            raise TritonFault(Fault.DEAD_WORKER, "the worker died")
        await asked.call.done_writing()
        async for message in asked.call:
            if message.error_message:
                raise fault_of_text(message.error_message)
            yield message.infer_response
    except grpc.aio.AioRpcError as error:
        raise fault_of_error(error) from error
    except grpc.aio.InternalError as error:
        raise TritonFault(Fault.OUT_OF_REACH, "the connection broke") from error
    except asyncio.InvalidStateError as error:
        # The call had ended before anything could be written.
        raise fault_of_status(await asked.call.code(), await asked.call.details()) from error
    except asyncio.CancelledError as error:
        # Who waits may have been cancelled, too, in that very moment: then nobody is to try again.
        task = asyncio.current_task()
        if asked.lost and not (task and task.cancelling()):
            raise TritonFault(Fault.DEAD_WORKER, "the worker died") from error
        raise


def next_of(replies: AsyncGenerator[Any, None]) -> Following:
    """The next of the answers, None after the last one."""
    return asyncio.ensure_future(anext(replies, None))


async def wind_up(asked: Asked, replies: AsyncGenerator[Any, None], following: Following) -> None:
    """Lets a job that nobody waits for any more end by itself, and cancels it where it does not.

    Most do, in a moment: their worker finds their time over, or their answer is on its way. A
    cancel that meets that answer makes Triton count the model as live for ever (decision 10).
    """
    with suppress(TimeoutError, TritonFault):
        async with asyncio.timeout(GRACE_SECONDS):
            await following
            async for _ in replies:
                pass
    asked.call.cancel()


def _request(model: str, job: Job) -> Any:
    """The job's bytes as a tensor, without tritonclient's copies of them."""
    body = job.SerializeToString()
    request = triton.ModelInferRequest(model_name=model, id=job.request_id)
    request.inputs.add(name="request", datatype="UINT8", shape=[len(body)])
    request.outputs.add(name="response")
    request.raw_input_contents.append(body)
    return request


def own_job(method: str, request: bytes, seconds: float) -> Job:
    """A job that no caller sends."""
    return Job(
        request_id=f"{method.lower()}-{time.monotonic_ns()}",
        method=method,
        request=request,
        remaining_us=round(seconds * 1e6),
        sent_us=time.monotonic_ns() // 1000,
        clock=CLOCK,
    )


def options(host: str) -> Sequence[tuple[str, Any]]:
    """How connections to Triton are kept; `host` is the name in its certificate, if it has one."""
    chosen: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # A silent connection is found by pings, long before the deadlines of long jobs.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        # Of pings for other ends too: while one of them is out, no ping for this end goes.
        ("grpc.http2.ping_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    if host:
        chosen.append(("grpc.ssl_target_name_override", host))
    return chosen


def is_broken(reply: Reply) -> bool:
    """Whether a worker says that it may be; a full queue, for one, is an answer like another."""
    known = Failure.from_status(reply.error) if reply.HasField("error") else None
    return known is not None and known.reason in BROKEN

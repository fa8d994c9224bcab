"""The server that bad input is sent to: a process of its own, so that a crash is its own too."""

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import psutil
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from convlens.contract import ErrorReason, Failure
from convlens.contract.rules import children, kind_of, message_fields
from convlens.server.contract import Rpc
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyResponse
from convlens.v1.image_pb2 import Image
from tests.conftest import server_process
from tests.faults.seeds import picture

# Seconds after which a call counts as hanging, and those that the server has for one.
HANGING, TIMEOUT = 5.0, 0.25
# Nothing else bounds a survey, which may take hours.
SURVEY = "/convlens.v1.AdversarialService/EvaluateRobustness"
CLASSIFY = "/convlens.v1.ClassificationService/Classify"
# Bytes that a process may have more of after a test.
FLAT = 48 * 2**20
# The allocator gives back what is free: what stays is held, and not only kept for the next call.
GIVING_BACK = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}


class Target:
    """A server under fire."""

    def __init__(self, process: psutil.Process, address: str, channel: grpc.Channel) -> None:
        self.process = process
        self.address = address
        self.channel = channel

    def ask_all(self, rpc: Rpc, calls: Sequence[Sequence[bytes]]) -> list[Failure]:
        """Makes calls side by side, and judges whatever went wrong in them; all of it, told."""
        begun = [self._begin(rpc, bodies) for bodies in calls]
        hanging = threading.Timer(HANGING, lambda: [call.cancel() for call in begun])
        hanging.start()
        try:
            return [
                judged(status)
                for bodies, call in zip(calls, begun, strict=True)
                for status in _statuses_of(rpc, bodies, call)
            ]
        finally:
            hanging.cancel()

    def _begin(self, rpc: Rpc, bodies: Sequence[bytes]) -> Any:
        # Without a time of the caller's own the server's holds, and the server says so.
        timeout = TIMEOUT if rpc.path == SURVEY else None
        if rpc.streams_in:
            return self.channel.stream_stream(rpc.path)(iter(bodies), timeout=timeout)
        return self.channel.unary_stream(rpc.path)(bodies[0], timeout=timeout)

    def check_alive(self, seconds: float = HANGING) -> None:
        """A valid call is answered."""
        request = ClassifyRequest(images=[Image(encoded=picture())])
        call = self.channel.unary_unary(CLASSIFY)
        answer = ClassifyResponse.FromString(call(request.SerializeToString(), timeout=seconds))
        assert answer.results[0].HasField("classification"), answer

    @contextmanager
    def flat(self, bound: int = FLAT) -> Generator[None]:
        """The server goes on after the block, with as much memory as before.

        A pass that was under way when its caller was answered may end a moment later.
        """
        before = self.process.memory_info().rss
        yield
        self.check_alive()
        end = time.monotonic() + HANGING
        while self._grown(before) >= bound and time.monotonic() < end:
            time.sleep(0.1)
        grown = self._grown(before)
        assert grown < bound, f"{grown >> 20} MiB more"

    def _grown(self, before: int) -> int:
        return self.process.memory_info().rss - before


def _statuses_of(rpc: Rpc, bodies: Sequence[bytes], call: Any) -> Iterator[Status]:
    try:
        for reply in call:
            yield from _statuses_in(rpc.response.FromString(reply))
    except grpc.RpcError as caught:
        error: Any = caught
        late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if rpc.path == SURVEY and late:
            return
        status = rpc_status.from_call(error)
        assert status is not None, (error.code(), error.details(), rpc.name, bodies)
        yield status


def _statuses_in(message: Message) -> Iterator[Status]:
    if isinstance(message, Status):
        yield message
        return
    for field in message_fields(kind_of(message)):
        for _, inner in children(message, field):
            yield from _statuses_in(inner)


def judged(status: Status) -> Failure:
    """The failure of a status, which must be of the catalogue and no defect of ours."""
    failure = Failure.from_status(status)
    assert failure is not None, status
    assert failure.reason != ErrorReason.ERROR_REASON_INTERNAL, failure
    return failure


@contextmanager
def a_target() -> Generator[Target]:
    """A server with little time for each call."""
    flags = ("--default-timeout", str(TIMEOUT))
    # Answers of any size, as the server's own limit allows.
    options = [("grpc.max_receive_message_length", -1)]
    with (
        server_process(*flags, **GIVING_BACK) as (process, address),
        grpc.insecure_channel(address, options) as channel,
    ):
        yield Target(psutil.Process(process.pid), address, channel)

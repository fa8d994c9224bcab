"""Turns requests into jobs for the engine, and replies into answers."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import POOL_OF_SERVICE
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.contract import RPCS, Rpc
from convlens.server.eager import eagerly
from convlens.server.engine import Engine
from convlens.server.metrics import Metrics
from convlens.server.networks import Networks
from convlens.server.rpc import Call, Replying, Unary
from convlens.v1.network_pb2 import Network

# Names this process's monotonic clock to workers.
CLOCK = uuid.uuid4().hex


class Dispatcher:
    """Sends requests to the engine and brings back answers."""

    def __init__(
        self, engine: Engine, networks: Networks, metrics: Metrics, max_response_bytes: int
    ) -> None:
        self._engine = engine
        self._networks = networks
        self._metrics = metrics
        self._max_response_bytes = max_response_bytes

    async def run(self, call: Call, rpc: Rpc, network: str, body: bytes) -> bytes:
        """The response's bytes; raises Failure."""
        async with aclosing(self.answers(call, rpc, network, body)) as answers:
            return [answer async for answer in answers][-1]

    async def run_patiently(
        self, call: Call, rpc: Rpc, network: str, body: bytes, worker_seconds: float = 0.0
    ) -> bytes:
        """Likewise; where the queue is full, sends the job again when there may be room.

        Where no worker answers, it is sent again for `worker_seconds`.
        """
        away: float | None = None
        async with asyncio.timeout_at(_loop_time(call.deadline)):
            while True:
                try:
                    return await self.run(call, rpc, network, body)
                except Failure as failure:
                    if failure.reason == ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE:
                        away = away or time.monotonic()
                        if time.monotonic() - away >= worker_seconds:
                            raise
                    elif failure.reason != ErrorReason.ERROR_REASON_QUEUE_FULL:
                        raise
                    await asyncio.sleep(failure.retry_after or 0.1)

    async def answers(
        self, call: Call, rpc: Rpc, network: str, body: bytes
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of one response after the other; raises Failure."""
        async with aclosing(self._replies(call, rpc, network, body)) as replies:
            async for reply in replies:
                if reply.HasField("stages"):
                    pool = POOL_OF_SERVICE.get(rpc.service, "inference")
                    self._metrics.record_stages(reply.stages, pool, call.facts.admit_seconds)
                if reply.HasField("error"):
                    raise _failure(reply, call)
                yield reply.response

    async def _replies(
        self, call: Call, rpc: Rpc, network: str, body: bytes
    ) -> AsyncGenerator[Reply, None]:
        """What the engine answers; from another version where the first was just unloaded."""
        served = self._networks.resolve(network, call.request_id)
        started = False
        try:
            async with aclosing(self._ask(served, call, rpc, body)) as replies:
                async for reply in replies:
                    started = True
                    yield reply
            return
        except Failure as failure:
            if started or failure.reason is not ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE:
                raise
            again = self._networks.resolve(network, call.request_id)
            if (again.name, again.version) == (served.name, served.version):
                raise
        async with aclosing(self._ask(again, call, rpc, body)) as replies:
            async for reply in replies:
                yield reply

    async def _ask(
        self, network: Network, call: Call, rpc: Rpc, body: bytes
    ) -> AsyncGenerator[Reply, None]:
        call.facts.network = f"{network.name}@{network.version}"
        job = self._job(call, rpc, body)
        call.facts.sent = time.monotonic()
        if POOL_OF_SERVICE.get(rpc.service) != "analysis":
            yield await self._engine.call(network, job)
            return
        async with aclosing(eagerly(self._engine.stream(network, job))) as replies:
            async for reply in replies:
                yield reply

    def _job(self, call: Call, rpc: Rpc, body: bytes) -> Job:
        assert call.deadline is not None
        return Job(
            request_id=call.request_id,
            method=rpc.name,
            request=body,
            remaining_us=round((call.deadline - time.monotonic()) * 1e6),
            sent_us=time.monotonic_ns() // 1000,
            clock=CLOCK,
            traceparent=call.traceparent,
            max_response_bytes=self._max_response_bytes,
        )

    def unary(self, path: str) -> Unary:
        """An RPC that is one job; its request names the network."""

        async def answer(call: Call, request: Any, body: bytes) -> bytes:
            return await self.run(call, RPCS[path], request.network, body)

        return answer

    def streamed(self, path: str) -> Replying:
        """An RPC that is one job with many answers.

        Its request names the network, or holds that of a unary RPC, which does.
        """

        async def answer(call: Call, request: Any, body: bytes) -> AsyncGenerator[bytes, None]:
            network = getattr(request, "request", request).network
            async with aclosing(self.answers(call, RPCS[path], network, body)) as answers:
                async for each in answers:
                    yield each

        return answer

    async def by_default(self, call: Call, request: Any, body: bytes) -> bytes:
        """A job that any worker can answer; it goes to the default network's."""
        del request
        return await self.run(call, call.rpc, "", body)


def _loop_time(deadline: float | None) -> float | None:
    """The deadline on the event loop's clock."""
    if deadline is None:
        return None
    return asyncio.get_running_loop().time() + deadline - time.monotonic()


def _failure(reply: Reply, call: Call) -> Failure:
    known = Failure.from_status(reply.error)
    return known or Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=call.request_id)

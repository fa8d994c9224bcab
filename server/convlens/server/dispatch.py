"""Turns requests into jobs for the engine, and replies into answers."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import POOL_OF_SERVICE, Pool
from convlens.internal.v1.job_pb2 import Job, Reply, Stages
from convlens.server.admission import Admission, Work, is_partial, price
from convlens.server.cache import Cache, key_of
from convlens.server.contract import RPCS, Rpc
from convlens.server.eager import eagerly
from convlens.server.engine import Engine
from convlens.server.metrics import Metrics
from convlens.server.networks import Networks
from convlens.server.rpc import Call, Replying, Unary
from convlens.v1.network_pb2 import Network

# Names this process's monotonic clock to workers.
CLOCK = uuid.uuid4().hex
# What there may be room for, in a while.
NO_ROOM = frozenset(
    {
        ErrorReason.ERROR_REASON_QUEUE_FULL,
        ErrorReason.ERROR_REASON_OVERLOADED,
        ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT,
        ErrorReason.ERROR_REASON_QUOTA_EXCEEDED,
    }
)


@dataclass(frozen=True)
class Question:
    """A request for a job: of a call, to a network by its name, parsed and as its bytes."""

    call: Call
    rpc: Rpc
    network: str
    request: Message
    body: bytes


class Dispatcher:
    """Sends requests to the engine and brings back answers."""

    def __init__(
        self,
        engine: Engine,
        networks: Networks,
        admission: Admission,
        cache: Cache,
        metrics: Metrics,
        max_response_bytes: int,
    ) -> None:
        self._engine = engine
        self._networks = networks
        self._admission = admission
        self._cache = cache
        self._metrics = metrics
        self._max_response_bytes = max_response_bytes

    async def run(self, asked: Question) -> bytes:
        """The response's bytes; raises Failure."""
        if not self._cache.keeps(asked.request):
            return await self._compute(asked)
        network = self._networks.resolve(asked.network, asked.call.request_id)
        asked.call.facts.network = reference_of(network)
        key = key_of(asked.rpc, network, asked.request)
        return await self._cache.get(key, asked.rpc, lambda: self._compute(asked))

    async def _compute(self, asked: Question) -> bytes:
        async with aclosing(self.answers(asked)) as answers:
            return [answer async for answer in answers][-1]

    async def run_patiently(self, asked: Question, worker_seconds: float = 0.0) -> bytes:
        """Likewise; where there is no room, sends the job again when there may be some.

        Where no worker answers, it is sent again for `worker_seconds`.
        """
        away: float | None = None
        async with asyncio.timeout_at(_loop_time(asked.call.deadline)):
            while True:
                try:
                    return await self.run(asked)
                except Failure as failure:
                    if failure.reason == ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE:
                        away = away or time.monotonic()
                        if time.monotonic() - away >= worker_seconds:
                            raise
                    elif failure.reason not in NO_ROOM:
                        raise
                    await asyncio.sleep(failure.retry_after or 0.1)

    async def answers(self, asked: Question) -> AsyncGenerator[bytes, None]:
        """The bytes of one response after the other; raises Failure."""
        async with aclosing(self._replies(asked)) as replies:
            async for reply in replies:
                if reply.HasField("stages"):
                    self._note(asked, reply.stages)
                if reply.HasField("error"):
                    raise _failure(reply, asked.call)
                yield reply.response

    def _note(self, asked: Question, stages: Stages) -> None:
        facts = asked.call.facts
        facts.stages, facts.answered = stages, time.monotonic()
        self._metrics.record_stages(stages, _pool_of(asked.rpc), facts.admit_seconds)

    async def _replies(self, asked: Question) -> AsyncGenerator[Reply, None]:
        """What the engine answers; from another version where the first was just unloaded."""
        served = self._networks.resolve(asked.network, asked.call.request_id)
        started = False
        try:
            async with aclosing(self._admitted(served, asked)) as replies:
                async for reply in replies:
                    started = True
                    yield reply
            return
        except Failure as failure:
            if started or failure.reason is not ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE:
                raise
            again = self._networks.resolve(asked.network, asked.call.request_id)
            if (again.name, again.version) == (served.name, served.version):
                raise
        async with aclosing(self._admitted(again, asked)) as replies:
            async for reply in replies:
                yield reply

    async def _admitted(self, network: Network, asked: Question) -> AsyncGenerator[Reply, None]:
        """What the engine answers to a job for which there is room, and time."""
        pool = _pool_of(asked.rpc)
        cost = price(asked.request, network)
        job = Work(cost, len(asked.body), is_partial(asked.request))
        with self._admission.let_in(job, asked.call, network, pool):
            asked.call.caller.charge(job.cost)
            asked.call.facts.passes = job.cost
            async with aclosing(self._ask(network, pool, asked)) as replies:
                async for reply in replies:
                    job.is_done = not (reply.more or reply.HasField("error"))
                    yield reply

    async def _ask(
        self, network: Network, pool: Pool, asked: Question
    ) -> AsyncGenerator[Reply, None]:
        facts = asked.call.facts
        facts.network = reference_of(network)
        job = self._job(asked.call, asked.rpc, asked.body)
        facts.sent = time.monotonic()
        if pool == "inference":
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
            return await self.run(Question(call, RPCS[path], request.network, request, body))

        return answer

    def streamed(self, path: str) -> Replying:
        """An RPC that is one job with many answers.

        Its request names the network, or holds that of a unary RPC, which does.
        """

        async def answer(call: Call, request: Any, body: bytes) -> AsyncGenerator[bytes, None]:
            network = getattr(request, "request", request).network
            asked = Question(call, RPCS[path], network, request, body)
            async with aclosing(self.answers(asked)) as answers:
                async for each in answers:
                    yield each

        return answer

    async def by_default(self, call: Call, request: Any, body: bytes) -> bytes:
        """A job that any worker can answer; it goes to the default network's."""
        return await self._compute(Question(call, call.rpc, "", request, body))


def reference_of(network: Network) -> str:
    """Its name with its version."""
    return f"{network.name}@{network.version}"


def _pool_of(rpc: Rpc) -> Pool:
    return POOL_OF_SERVICE.get(rpc.service, "inference")


def _loop_time(deadline: float | None) -> float | None:
    """The deadline on the event loop's clock."""
    if deadline is None:
        return None
    return asyncio.get_running_loop().time() + deadline - time.monotonic()


def _failure(reply: Reply, call: Call) -> Failure:
    known = Failure.from_status(reply.error)
    return known or Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=call.request_id)

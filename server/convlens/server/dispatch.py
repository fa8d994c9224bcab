"""Turns requests into jobs for the engine, and replies into answers."""

import time
import uuid
from typing import Any

from convlens.contract import ErrorReason, Failure
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.contract import RPCS, Rpc
from convlens.server.engine import Engine
from convlens.server.metrics import Metrics
from convlens.server.networks import Networks
from convlens.server.rpc import Call, Unary

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
        served = self._networks.resolve(network, call.request_id)
        try:
            reply = await self._engine.call(served, self._job(call, rpc, body))
        except Failure as failure:
            if failure.reason is not ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE:
                raise
            # Its version may have been unloaded a moment ago: then another one may answer.
            again = self._networks.resolve(network, call.request_id)
            if (again.name, again.version) == (served.name, served.version):
                raise
            reply = await self._engine.call(again, self._job(call, rpc, body))
        self._metrics.record_stages(reply.stages)
        if reply.HasField("error"):
            raise _failure(reply, call)
        return reply.response

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

    async def by_default(self, call: Call, request: Any, body: bytes) -> bytes:
        """A job that any worker can answer; it goes to the default network's."""
        del request
        return await self.run(call, call.rpc, "", body)


def _failure(reply: Reply, call: Call) -> Failure:
    known = Failure.from_status(reply.error)
    return known or Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=call.request_id)

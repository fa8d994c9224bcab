"""grpc.health.v1: which services can answer, asked once or watched."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Status = health_pb2.HealthCheckResponse
_Servicer: Any = health_pb2_grpc.HealthServicer
# What is told again of a name that nobody has: errors must fit into what gRPC carries.
LONGEST = 200
# What probes of Kubernetes ask for: whether a network has ever been ready, whether anything can be
# answered now, and whether the process lives, whatever is behind it.
STARTUP, READINESS, LIVENESS = "startup", "readiness", "liveness"


class Health(_Servicer):
    """Tells each watcher the last status of its service.

    With grpc_health's own servicer the others hear nothing any more once one watcher has left
    (grpc/grpc#43403), and one that does not read holds up every change.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {}
        # Set at the next change, and then replaced.
        self._changed = asyncio.Event()

    def set(self, service: str, is_well: bool) -> None:
        """Says of a service, or of all as "", whether it can answer."""
        self._statuses[service] = Status.SERVING if is_well else Status.NOT_SERVING
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: Any, context: Any) -> Any:
        """The status of a service; NOT_FOUND where there is none of that name."""
        status = self._statuses.get(request.service)
        if status is None:
            known = ", ".join(sorted(filter(None, self._statuses)))
            asked = request.service[:LONGEST]
            text = f"There is no service {asked!r} here; ask for one of: {known}."
            # gRPC keeps the frames of aborted calls for a while, and anybody may send a long one.
            del request
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        return Status(status=status)

    async def Watch(self, request: Any, context: Any) -> None:
        """The status of a service, now and after each change of it."""
        told = None
        while True:
            # Taken first: what changes while this one is told is told next.
            changed = self._changed
            status = self._statuses.get(request.service, Status.SERVICE_UNKNOWN)
            if status != told:
                await context.write(Status(status=status))
                told = status
            await changed.wait()

"""The way back to a caller: messages, one after the other, then perhaps a status."""

import asyncio
from typing import Any, NoReturn, TypeAlias

import grpc
from google.rpc.status_pb2 import Status

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
CODES = {code.value[0]: code for code in grpc.StatusCode}
REQUEST_ID = "x-request-id"
STATUS_DETAILS = "grpc-status-details-bin"


class Wire:
    """Of one call. gRPC sends one thing at a time: a status never overtakes a message."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._writing: asyncio.Future[None] | None = None

    async def write(self, reply: bytes) -> None:
        """Sends a message, as fast as the caller reads; raises CancelledError where he is gone."""
        # A task of its own goes on where we are cancelled: gRPC still has its message, and would
        # refuse the status, without which the caller waits for ever.
        self._writing = asyncio.ensure_future(self._write(reply))
        await asyncio.shield(self._writing)

    async def _write(self, reply: bytes) -> None:
        try:
            await self.context.write(reply)
        except grpc.aio.InternalError:
            # The caller is gone, and gRPC is about to cancel us.
            raise asyncio.CancelledError from None

    async def abort(self, status: Status, request_id: str) -> NoReturn:
        """Ends the call with a status, once the caller has taken what was sent before."""
        if self._writing:
            await asyncio.wait({self._writing})
        trailing = ((REQUEST_ID, request_id), (STATUS_DETAILS, status.SerializeToString()))
        await self.context.abort(CODES[status.code], status.message, trailing)

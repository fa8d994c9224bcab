"""A server that answers at once: `python -m convlens.loadtest.generator.stub`.

It measures the load generator, and no server: every RPC is answered with an empty message. Its
address is the first line of stdout; when stdin ends, so does it.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from convlens.client._transport import MAX_MESSAGE_BYTES
from convlens.loadtest.traffic.rpcs import METHODS


class _Empty(grpc.GenericRpcHandler):
    """Answers every RPC of the contract with nothing."""

    def __init__(self) -> None:
        self._handlers: dict[str, Any] = {}
        for method in METHODS.values():
            path = f"/{method.containing_service.full_name}/{method.name}"
            if method.client_streaming:
                self._handlers[path] = grpc.stream_stream_rpc_method_handler(_each)
            elif method.server_streaming:
                self._handlers[path] = grpc.unary_stream_rpc_method_handler(_once)
            else:
                self._handlers[path] = grpc.unary_unary_rpc_method_handler(_empty)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of an RPC, or None."""
        return self._handlers.get(handler_call_details.method)


async def _empty(request: bytes, context: object) -> bytes:
    return b""


async def _once(request: bytes, context: object) -> AsyncIterator[bytes]:
    yield b""


async def _each(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
    async for _ in requests:
        yield b""


async def _serve() -> None:
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    server = grpc.aio.server(handlers=[_Empty()], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve())
    os._exit(0)

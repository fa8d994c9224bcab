"""A port for health probes alone, without TLS: those of Kubernetes speak none."""

import grpc
from grpc_health.v1 import health_pb2_grpc

from convlens.server.health import Health
from convlens.server.settings import Address

LONGEST_PROBE = 4096


class ProbePort:
    """Answers grpc.health.v1, and nothing else, as the server's own port does."""

    def __init__(self, health: Health, address: Address, shared: bool) -> None:
        options = [
            # Two servers on one port by mistake would each get half of the probes.
            ("grpc.so_reuseport", int(shared)),
            # Nobody is asked who they are here, and no probe is longer.
            ("grpc.max_receive_message_length", LONGEST_PROBE),
        ]
        self._server = grpc.aio.server(options=options)
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        self.address = Address(host=address.host, port=self._server.add_insecure_port(str(address)))

    async def start(self) -> None:
        """Answers from now on."""
        await self._server.start()

    async def stop(self) -> None:
        """Answers no more, and lets go of the port."""
        # gRPC lets go of the port of a server only if that was started.
        await self._server.start()
        await self._server.stop(None)

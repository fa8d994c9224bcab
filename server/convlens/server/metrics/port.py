"""The port that shows metrics."""

from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from convlens.server.settings import Address


class MetricsPort:
    """Shows a registry at http://host:port/metrics until closed."""

    def __init__(self, registry: CollectorRegistry, address: Address) -> None:
        self._server: WSGIServer
        self._thread: Thread
        self._server, self._thread = start_http_server(
            address.port, address.host, registry=registry
        )
        self.address = Address(host=address.host, port=self._server.server_port)

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""One port for several processes."""

import socket

from convlens.server.gateway import bind
from convlens.server.settings import Address


def reserve(address: Address) -> tuple[Address, socket.socket]:
    """The address with its port, a free one for 0, and the socket that keeps it for its children.

    The socket does not listen, so no connection comes to it. Raises EngineError where the address
    is taken, also by somebody who would share it.
    """
    return bind(address, lambda: _reserve(address))


def _reserve(address: Address) -> tuple[Address, socket.socket]:
    family, _, _, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        # Connections of a server that has just ended do not matter; one that listens does.
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind(place)
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(place)
    except BaseException:
        held.close()
        raise
    return Address(host=address.host, port=held.getsockname()[1]), held

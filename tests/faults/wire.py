"""Connections as no client of ours makes them: raw bytes of HTTP/2."""

import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager

from tests.faults.target import CLASSIFY
from tests.server.access.test_wire import END_HEADERS, HEADERS, PREFACE, SETTINGS, frame, header

DATA, RST_STREAM, PING, CONTINUATION = 0, 3, 6, 9
END_STREAM = 1
HELLO = PREFACE + frame(SETTINGS, 0, 0, b"")
# A client that may be sent nothing, of any stream.
DEAF = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))


def headers(path: str = CLASSIFY) -> bytes:
    """The block of headers of a call."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    return b"".join(header(name, value) for name, value in fields)


def call(stream: int, body: bytes, path: str = CLASSIFY) -> bytes:
    """A whole call with a small message."""
    message = struct.pack(">BI", 0, len(body)) + body
    return frame(HEADERS, END_HEADERS, stream, headers(path)) + frame(
        DATA, END_STREAM, stream, message
    )


def half_a_call(stream: int, claimed: int, body: bytes) -> bytes:
    """A call whose message claims so many bytes and ends, without an end, after these."""
    message = struct.pack(">BI", 0, claimed) + body
    return frame(HEADERS, END_HEADERS, stream, headers()) + frame(DATA, 0, stream, message)


@contextmanager
def connections(address: str, count: int, sent: bytes) -> Generator[list[socket.socket]]:
    """So many connections, on each of which this was said."""
    host, _, port = address.rpartition(":")
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(socket.create_connection((host, int(port)), timeout=10))
            opened[-1].sendall(sent)
        yield opened
    finally:
        for each in opened:
            each.close()


def vanish(connection: socket.socket) -> None:
    """Leaves without a word: the other side finds a broken connection."""
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()

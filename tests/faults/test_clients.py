"""Clients that are slow, deaf, idle, half there or gone: others are answered as if they were not.

What a stream does whose caller does not read is in tests/e2e, test_stream.py and
test_slow_readers.py, and metadata of a megabyte in tests/server/access/test_wire.py.
"""

import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from convlens.server.contract import RPCS
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from tests.faults import wire
from tests.faults.seeds import filled, picture
from tests.faults.target import FLAT, Target

SYNTHESIZE = "/convlens.v1.SynthesisService/Synthesize"
BODY = ClassifyRequest(images=[Image(encoded=picture())]).SerializeToString()
CALLS = 20
# Seconds for such a call beside all the others; alone it takes milliseconds.
PROMPT = 1.0


def check_prompt(target: Target) -> None:
    """Others are answered promptly, each of them."""
    for _ in range(CALLS):
        started = time.monotonic()
        target.check_alive()
        assert time.monotonic() - started < PROMPT


@contextmanager
def no_trace(target: Target) -> Generator[None]:
    """After the block the server has the files and threads of before, and little more memory."""
    files, threads = target.process.num_fds(), target.process.num_threads()
    # gRPC keeps some for connections, however many there are.
    with target.flat(2 * FLAT):
        yield
    until = time.monotonic() + 10
    while target.process.num_fds() > files and time.monotonic() < until:
        time.sleep(0.05)
    assert target.process.num_fds() <= files
    # gRPC has a pool of them, which breathes.
    assert target.process.num_threads() <= threads + 8


@pytest.mark.parametrize("count", [1_000, pytest.param(5_000, marks=pytest.mark.slow)])
def test_idle_connections(target: Target, count: int) -> None:
    # gRPC keeps what so many at once needed, once: up to 121 MiB for 1,000 on a busy machine.
    with wire.connections(target.address, count, wire.HELLO) as opened:
        assert all(each.recv(9) for each in opened)
    with no_trace(target), wire.connections(target.address, count, wire.HELLO) as opened:
        assert all(each.recv(9) for each in opened)
        assert target.process.num_fds() >= count
        check_prompt(target)


def test_connections_that_say_nothing_or_nonsense(target: Target) -> None:
    garbage = (b"", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x02\0\1\0", b"\0" * 4_096)
    with no_trace(target):
        for said in garbage:
            with wire.connections(target.address, 50, said):
                check_prompt(target)


def test_messages_half_sent(target: Target) -> None:
    """Each claims 60 MiB and sends a few bytes: nothing is put aside for the rest."""
    half = b"".join(wire.half_a_call(1 + 2 * n, 60 * 2**20, BODY) for n in range(20))
    with no_trace(target):
        before = target.process.memory_info().rss
        with wire.connections(target.address, 20, wire.HELLO + half):
            check_prompt(target)
            assert target.process.memory_info().rss - before < 96 * 2**20


def test_a_message_byte_by_byte(target: Target) -> None:
    with no_trace(target), wire.connections(target.address, 20, b"") as opened:
        said = wire.HELLO + wire.call(1, BODY)
        for at in range(0, 120):
            for each in opened:
                each.sendall(said[at : at + 1])
        check_prompt(target)
        for each in opened:
            each.sendall(said[120:])
        assert all(b"grpc-status" in until_the_end(each) for each in opened)


def until_the_end(connection: socket.socket) -> bytes:
    """What the server says until it has said how the call ended."""
    said = b""
    while b"grpc-status" not in said and (part := connection.recv(2**16)):
        said += part
    return said


def test_headers_without_an_end(target: Target) -> None:
    """A block of headers that goes on and on is cut off before it fills the memory."""
    start = wire.frame(wire.HEADERS, 0, 1, wire.headers())
    more = wire.frame(wire.CONTINUATION, 0, 1, wire.header(b"x-more", b"a" * 100) * 100) * 10
    with no_trace(target), wire.connections(target.address, 1, wire.HELLO + start) as [endless]:
        before, sent = target.process.memory_info().rss, 0
        try:
            while sent < 128 * 2**20:
                endless.sendall(more)
                sent += len(more)
        except OSError:
            # The server has hung up.
            pass
        check_prompt(target)
        # What gRPC reads into takes some 75 MiB, however much comes.
        assert target.process.memory_info().rss - before < 2 * FLAT


def test_streams_begun_and_reset(target: Target) -> None:
    """What was called rapid reset: calls that are begun and given up at once, many times."""
    with no_trace(target), wire.connections(target.address, 4, wire.HELLO) as opened:
        for n in range(1_000):
            number = 1 + 2 * n
            given_up = wire.frame(wire.RST_STREAM, 0, number, b"\0\0\0\x08")
            try:
                for each in opened:
                    each.sendall(wire.call(number, BODY) + given_up)
            except OSError:
                break
        check_prompt(target)


def test_callers_who_may_be_told_nothing(target: Target) -> None:
    """Their windows are shut: previews of synthesis have nowhere to go, and no answer either."""
    kind: Any = RPCS[SYNTHESIZE].request.DESCRIPTOR
    ask = filled(kind).SerializeToString()
    calls = b"".join(
        wire.call(1 + 2 * n, BODY) if n % 2 else wire.call(1 + 2 * n, ask, SYNTHESIZE)
        for n in range(10)
    )
    with no_trace(target), wire.connections(target.address, 4, wire.DEAF + calls):
        check_prompt(target)


@pytest.mark.parametrize("rounds", [10, pytest.param(500, marks=pytest.mark.slow)])
def test_clients_that_vanish(target: Target, rounds: int) -> None:
    """They leave in the middle of a message, of a call, and of an answer."""
    # gRPC keeps what thousands of connections in a second needed, once: +193, +6, +1, +0 MiB.
    come_and_vanish(target, rounds)
    with no_trace(target):
        come_and_vanish(target, rounds)
        # What is left of so many comes first, within the five seconds of a call.
        target.check_alive()
        check_prompt(target)


def come_and_vanish(target: Target, rounds: int) -> None:
    """Twenty clients in each round."""
    whole = wire.HELLO + wire.call(1, BODY)
    for n in range(rounds):
        end = len(whole) - n % 5 * 40
        with wire.connections(target.address, 20, whole[:end]) as opened:
            for each in opened:
                wire.vanish(each)

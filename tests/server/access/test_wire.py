"""Metadata that no client of ours sends: the server refuses it, and goes on."""

import asyncio
import struct
from pathlib import Path

import grpc
import pytest

from tests.server.access.serving import LIST, ask, bearer, calling, entry, write

HEADERS, SETTINGS, END_STREAM, END_HEADERS = 1, 4, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """A field as HPACK writes it plainly, for lengths below 127."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def raw_call(*fields: tuple[bytes, bytes]) -> bytes:
    """ListNetworks with an empty request, as bytes on the wire."""
    given = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", LIST.path.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *fields,
    )
    block = b"".join(header(name, value) for name, value in given)
    data = frame(0, END_STREAM, 1, bytes(5))
    return PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, block) + data


async def said(address: str, sent: bytes) -> bytes:
    """What the server answers until it has said how the call ended, or hangs up."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    answer = b""
    async with asyncio.timeout(10):
        while b"grpc-status" not in answer and (part := await reader.read(2**16)):
            answer += part
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_raw_call_is_right(tokens: Path) -> None:
    write(tokens, entry("t-lab"))
    async with calling(tokens=tokens) as (gateway, _):
        answer = await said(str(gateway.address), raw_call((b"authorization", b"Bearer t-lab")))
    assert b"shapes" in answer


@pytest.mark.parametrize(
    "fields",
    [
        [(b"authorization", b"Bearer t-lab\xc3\xa9")],
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"authorization", b"Bearer t-lab\0")],
        [(b"authorization", b"Bearer t-lab"), (b"authorization", b"Bearer t-lab")],
        [(b"authorization", b"Bearer t-page"), (b"authorization", b"Bearer t-lab")],
        [(b"authorization", b"Bearer t-lab,Bearer t-lab")],
        [(b"Authorization", b"Bearer t-lab")],
        [(b"authorization", b"Bearer t-page"), (b"x-request-id", b"\xff" * 20)],
    ],
)
async def test_fields_that_are_none(fields: list[tuple[bytes, bytes]], tokens: Path) -> None:
    write(tokens, entry("t-lab"))
    async with calling(tokens=tokens) as (gateway, channel):
        answer = await said(str(gateway.address), raw_call(*fields))
        assert b"shapes" not in answer
        assert await ask(channel, LIST, metadata=bearer("t-lab"))


async def test_a_header_of_a_megabyte(tokens: Path) -> None:
    write(tokens, entry("t-lab"))
    async with calling(tokens=tokens) as (_, channel):
        for metadata in (bearer("a" * 2**20), (*bearer("t-lab"), ("x-more", "a" * 2**20))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(channel, LIST, metadata=metadata)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await ask(channel, LIST, metadata=bearer("t-lab"))

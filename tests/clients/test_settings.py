"""What a client may be made with and called with, and what it says to anything else."""

from typing import Any

import numpy as np
import pytest

from convlens.client import AsyncClient, Client, Health, InvalidRequest

KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])
NO_TIMES: list[Any] = [0, -1, float("nan"), float("-inf"), "3", True, [1], 1j, None]


@KINDS
@pytest.mark.parametrize("timeout", NO_TIMES, ids=repr)
def test_a_client_needs_a_time(kind, timeout):
    with pytest.raises(InvalidRequest, match=r"^timeout is .*; it must be a number of seconds"):
        kind("127.0.0.1:1", timeout=timeout)


@pytest.mark.parametrize("timeout", NO_TIMES[:-1], ids=repr)
def test_a_call_needs_a_time(connect, server, timeout):
    client = connect(server.address)
    for call in (
        lambda: client.call("classify", b"x", timeout=timeout),
        lambda: list(client.stream([b"x"], timeout=timeout)),
    ):
        with pytest.raises(InvalidRequest, match=r"^timeout is"):
            call()
    assert server.requests == []


@pytest.mark.parametrize(
    "timeout", [float("inf"), 1e12, 10**400, np.float32(30), np.int64(30)], ids=repr
)
def test_any_time_will_do(connect, server, timeout):
    client = connect(server.address, timeout=timeout)
    assert client.call("health") is Health.SERVING
    assert client.call("health", timeout=timeout) is Health.SERVING
    assert len(list(client.stream([b"x"], timeout=timeout))) == 1
    assert all(request.timeout is None or request.timeout > 20 for request in server.requests)


@KINDS
@pytest.mark.parametrize("name", ["max_message_bytes", "max_attempts"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "a", None, True, float("inf"), 2**70], ids=repr)
def test_a_client_needs_whole_numbers(kind, name, value):
    with pytest.raises(InvalidRequest, match=f"^{name} is .*; it must be a whole number from 1"):
        kind("127.0.0.1:1", **{name: value})


@pytest.mark.parametrize("in_flight", [0, -1, 1.5, "a", None, True], ids=repr)
def test_a_stream_needs_a_whole_number(connect, server, in_flight):
    with pytest.raises(InvalidRequest, match=r"^in_flight is .*; it must be a whole number from 1"):
        list(connect(server.address).stream([b"x"], in_flight=in_flight))
    assert server.requests == []


NO_ADDRESSES: list[Any] = [
    5, "", " ", "host", "host:", ":50051", "host:0", "host:99999", "a b:1", "http://host:1",
    "host:1/x", "user@host:1", "::1", "host:1\n", "\ud800:1", b"host:1", ["host:1"],
]  # fmt: skip


@KINDS
@pytest.mark.parametrize("address", NO_ADDRESSES, ids=ascii)
def test_a_client_needs_an_address(kind, address):
    with pytest.raises(InvalidRequest, match="it must be 'host:port'"):
        kind(address)


@KINDS
@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:50051", "gpu-1:80", "a.example.org:443", "[::1]:50051", "dns:///gpu:1", "unix:/a"],
)
def test_addresses(kind, address):
    assert kind(address).address == address


def test_an_address_of_the_environment_is_checked(monkeypatch):
    monkeypatch.setenv("CONVLENS_SERVER", "http://gpu-1")
    with pytest.raises(InvalidRequest, match="http://gpu-1"):
        Client()


def test_the_address_of_the_environment(connect, server, monkeypatch):
    monkeypatch.setenv("CONVLENS_SERVER", server.address)
    client = connect()
    assert client.client.address == server.address
    assert client.call("health") is Health.SERVING

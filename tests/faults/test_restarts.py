"""A server that is restarted in the middle of a stream: its caller is only kept waiting."""

import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convlens.client import Client
from tests.conftest import server_process

TOTAL = 240


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        host, port = probe.getsockname()
    return f"{host}:{port}"


@pytest.mark.parametrize(
    "end", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_a_stream_of_pictures_loses_none(pictures: list[Path], end: signal.Signals) -> None:
    address, under_way, restarted = free_address(), threading.Event(), threading.Event()

    def source() -> Iterator[Path]:
        for n in range(TOTAL):
            if n == TOTAL // 4:
                under_way.set()
            if n == TOTAL // 2:
                # The second half is left for the second server.
                assert restarted.wait(60)
            yield pictures[n % len(pictures)]

    def ask() -> list[str]:
        with Client(address, max_attempts=10) as client:
            return [result.top.label for result in client.classify_stream(source(), in_flight=16)]

    with ThreadPoolExecutor() as threads:
        with server_process("--listen", address) as (process, _):
            labels = threads.submit(ask)
            assert under_way.wait(30)
            process.send_signal(end)
            process.wait(30)
        with server_process("--listen", address):
            restarted.set()
            names = [pictures[n % len(pictures)].name.partition("-")[0] for n in range(TOTAL)]
            assert labels.result(60) == names

"""Calls are shared out between servers of one name, which come and go, and none is lost."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from convlens.client import Client
from tests.deploy.names import NAME, Addresses, name_server, servers

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
CONFIG = Path(__file__).parents[2] / "deploy/haproxy/haproxy.cfg"
PICTURE = b"a picture that nobody looks at"
CALLERS = 8


class Callers:
    """Callers who go on asking; every answer is counted by who gave it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._over = threading.Event()
        self._counts: Counter[str] = Counter()
        self._lost: list[Exception] = []
        self._lock = threading.Lock()

    def call(self) -> None:
        """One caller, until all end; what a call raises ends all."""
        while not self._over.is_set():
            try:
                host = self._client.classify(PICTURE).classes[0].label
            except Exception as error:
                self._lost.append(error)
                raise
            with self._lock:
                self._counts[host] += 1

    def end(self) -> None:
        self._over.set()

    def since_now(self, enough: Callable[[Counter[str]], bool]) -> Counter[str]:
        """The answers from now on, as soon as they are enough."""
        with self._lock:
            self._counts = Counter()
        until = time.monotonic() + 40
        while time.monotonic() < until:
            assert not self._lost
            with self._lock:
                if enough(self._counts):
                    return Counter(self._counts)
            time.sleep(0.01)
        raise AssertionError(f"never enough: {self._counts}")


@contextmanager
def calling(address: str) -> Generator[Callers]:
    """Callers while the block runs; it fails where one of their calls did."""
    with Client(address, timeout=20, max_attempts=5) as client, ThreadPoolExecutor() as pool:
        callers = Callers(client)
        running = [pool.submit(callers.call) for _ in range(CALLERS)]
        try:
            yield callers
        finally:
            callers.end()
        for each in running:
            each.result()


def straight(dns: str, port: int) -> str:
    """The name, as the SDK looks it up itself."""
    return f"dns://{dns}/{NAME}:{port}"


@contextmanager
def through_haproxy(dns: str, port: int) -> Generator[str]:
    """The address of a HAProxy in front of the name, as a user would run it."""
    haproxy = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    assert haproxy, "Debian's haproxy is to be installed; .ci/run does it"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    given = {"LISTEN": listen, "NAME": NAME, "PORT": str(port), "DNS": dns}
    environment = os.environ | {f"CONVLENS_{key}": value for key, value in given.items()}
    command = [haproxy, "-db", "-f", str(CONFIG)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield listen
        finally:
            process.kill()


def evenly(count: int, *hosts: str) -> Callable[[Counter[str]], bool]:
    """Whether so many answers came, of these hosts and of no other."""
    return lambda found: found.total() >= count and found.keys() == {*hosts}


def check_shares(
    address: str, addresses: Addresses, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    """Three servers; one is killed, and another one comes under the same name."""
    one, two, three, four = HOSTS
    running = {host: start(host) for host in (one, two, three)}
    addresses.hosts = [one, two, three]
    with calling(address) as callers:
        callers.since_now(evenly(60, one, two, three))
        assert is_even(callers.since_now(evenly(300, one, two, three)))
        start(four)
        addresses.hosts = [one, three, four]
        running[two].send_signal(signal.SIGKILL)
        # What the proxy gives to who has fewest under way is even once all are as quick.
        callers.since_now(lambda found: found[four] >= 20)
        assert is_even(callers.since_now(evenly(300, one, three, four)))


def is_even(found: Counter[str]) -> bool:
    """Whether each share is within a fifth of what it would be."""
    fair = found.total() / len(found)
    return all(abs(count / fair - 1) <= 0.2 for count in found.values())


def test_the_sdk_shares_out_its_calls_and_loses_none() -> None:
    with name_server() as (addresses, dns), servers() as (port, start):
        check_shares(straight(dns, port), addresses, start)


def test_haproxy_shares_them_out_and_loses_none() -> None:
    with (
        name_server() as (addresses, dns),
        servers() as (port, start),
        through_haproxy(dns, port) as address,
    ):
        check_shares(address, addresses, start)


@pytest.mark.parametrize("found", [{"a": 100, "b": 100, "c": 60}, {"a": 200, "b": 100}])
def test_shares_that_are_not_even_would_be_seen(found: dict[str, int]) -> None:
    assert not is_even(Counter(found))

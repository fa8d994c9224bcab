"""Classify through ConvLens, and through LitServe as its user would write it."""

import asyncio
import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from benchmarks.classify import saturate
from benchmarks.common import Side, jpeg_of_60_kb, one_by_one, rate_of, server, show, turns
from convlens.client import AsyncClient

ROUNDS, IMAGES, CALLS, IN_FLIGHT = 3, 512, 60, 128
START_SECONDS, STOP_SECONDS = 120.0, 10.0


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def litserve() -> Generator[int]:
    """The port of LitServe, a process of its own, once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.litserve_server", str(port)]
    quiet = subprocess.DEVNULL
    # A session of its own: LitServe's processes do not all end with their parent.
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        try:
            until = time.monotonic() + START_SECONDS
            while not is_well(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("LitServe did not start")
                time.sleep(0.2)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_well(port: int) -> bool:
    """What its health page says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


class Http:
    """Callers of LitServe, each with a connection that it keeps; the request is written once."""

    def __init__(self, port: int, jpeg: bytes) -> None:
        self._port = port
        self._body = json.dumps({"image_data": base64.b64encode(jpeg).decode()}).encode()

    def rate(self, images: int) -> float:
        """Images per second with many callers."""
        left, times = iter(range(images)), list[float]()

        def caller(_: int) -> None:
            times.extend(self._ask(left))

        with ThreadPoolExecutor(IN_FLIGHT) as callers:
            list(callers.map(caller, range(IN_FLIGHT)))
        return rate_of(sorted(times))

    def single(self, calls: int) -> list[float]:
        """Milliseconds of each call, one at a time."""
        before = time.perf_counter()
        times = [before, *self._ask(iter(range(calls)))]
        return [float(took) * 1e3 for took in np.diff(times)]

    def _ask(self, left: Iterator[int]) -> Iterator[float]:
        """When each answer was there."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        headers = {"content-type": "application/json"}
        for _ in left:
            connection.request("POST", "/predict", self._body, headers)
            answer = json.loads(connection.getresponse().read())
            assert len(answer["classes"]) == 5, answer
            yield time.perf_counter()
        connection.close()


class Grpc:
    """Callers of ConvLens, over its own client."""

    def __init__(self, address: str, jpeg: bytes) -> None:
        self._address = address
        self._jpeg = jpeg

    def rate(self, images: int) -> float:
        """Images per second with many callers."""
        return asyncio.run(saturate(self._address, self._jpeg, 1, images))

    def single(self, calls: int) -> list[float]:
        """Milliseconds of each call, one at a time."""
        return asyncio.run(self._single(calls))

    async def _single(self, calls: int) -> list[float]:
        async with AsyncClient(self._address) as client:
            return await one_by_one(client, self._jpeg, calls)


@contextmanager
def all_of(jpeg: bytes) -> Generator[dict[str, Http | Grpc]]:
    """The three servers, each of which computes with one worker; only one is asked at a time."""
    with litserve() as port, server("triton-local") as triton, server("embedded") as embedded:
        yield {
            "LitServe": Http(port, jpeg),
            "ConvLens, triton-local": Grpc(triton.server, jpeg),
            "ConvLens, embedded": Grpc(embedded.server, jpeg),
        }


def run(
    json_file: Path | None, images: int = IMAGES, calls: int = CALLS, rounds: int = ROUNDS
) -> None:
    """ResNet-18 at 224 px with random weights from the same JPEG, by turns."""
    with all_of(jpeg_of_60_kb()) as callers:
        rates = {name: Side(f"{name}: images/s", []) for name in callers}
        singles = {name: Side(f"{name}: ms of a call alone", []) for name in callers}
        for each in callers.values():
            each.rate(IN_FLIGHT)
        for _ in turns(rounds, "beside LitServe"):
            for name, each in callers.items():
                rates[name].values.append(each.rate(images))
                singles[name].values.extend(each.single(calls)[1:])
    words = [compared(name, rates, singles) for name in callers]
    sides = [*rates.values(), *singles.values()]
    show(
        f"Classify ResNet-18 at 224 px, {IN_FLIGHT} in flight",
        "images/s or ms",
        sides,
        "\n".join(words),
        json_file,
    )


def compared(name: str, rates: dict[str, Side], singles: dict[str, Side]) -> str:
    """The rate against LitServe's, and the percentiles of single calls."""
    ratio = rates[name].median / rates["LitServe"].median
    p50, p99 = np.percentile(singles[name].values, [50, 99])
    return f"{name}: {ratio:.2f} times LitServe's rate; p50 {p50:.1f} ms, p99 {p99:.1f} ms alone"

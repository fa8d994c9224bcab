"""The gateway in front of an engine that computes nothing, against grpc.aio alone."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import psutil

from benchmarks.common import Address, Side, jpeg_of_60_kb, serving, show
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image

NAMES = ("bare", "gateway", "quiet")
# What comes back: a Classify response of some 200 bytes, or the request's own 60 kB.
BACKS = ("answer", "request")
CLIENTS, IN_FLIGHT = 2, 32
ROUNDS, SECONDS = 5, 4.0
# Until all clients are there and the queues are full.
LEAD = 1.5


@dataclass
class Load:
    """A server under load, and what was seen of it in each round."""

    name: str
    address: Address
    rates: list[float] = field(default_factory=list[float])
    # Of the server's process, in ms a call: what the rate could be, however fast its clients are.
    cpu: list[float] = field(default_factory=list[float])


def start_client(load: Load, body: Path, begin: float, end: float) -> subprocess.Popen[str]:
    """One client process, which says at its end how many answers came between these times."""
    numbers = [str(number) for number in (IN_FLIGHT, begin, end)]
    command = [sys.executable, "-m", "benchmarks.echo_client", load.address.server, *numbers]
    with body.open("rb") as file:
        return subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, text=True)


def measure(load: Load, body: Path, seconds: float) -> None:
    """One round: calls a second, and the server's CPU time of each."""
    begin = time.monotonic() + LEAD
    end = begin + seconds
    clients = [start_client(load, body, begin, end) for _ in range(CLIENTS)]
    process = psutil.Process(load.address.pid)
    time.sleep(begin - time.monotonic())
    before = process.cpu_times()
    time.sleep(end - time.monotonic())
    after = process.cpu_times()
    calls = sum(int(client.communicate()[0]) for client in clients)
    spent = after.user + after.system - before.user - before.system
    load.rates.append(calls / seconds)
    load.cpu.append(spent / calls * 1e3)


@contextmanager
def all_of(back: str) -> Generator[list[Load]]:
    """The servers, all at once; only one of them is ever asked at a time."""
    with ExitStack() as stack:
        commands = {name: ["benchmarks.echo_server", name, back] for name in NAMES}
        yield [
            Load(f"{name}, {back} back", stack.enter_context(serving(command)))
            for name, command in commands.items()
        ]


def sides_of(load: Load) -> Iterator[Side]:
    """The rate and the CPU time."""
    yield Side(load.name, load.rates)
    yield Side(f"{load.name}: CPU ms a call", load.cpu)


def words(bare: Load, load: Load) -> str:
    """The ratios of both."""
    rate, cpu = sides_of(load)
    bare_rate, bare_cpu = sides_of(bare)
    return (
        f"{load.name}: {rate.median / bare_rate.median:.1%} of the bare server's rate; "
        f"by the CPU time of a call {bare_cpu.median / cpu.median:.1%}"
    )


def run(json_file: Path | None, seconds: float = SECONDS, rounds: int = ROUNDS) -> None:
    """60 kB requests at saturation, by turns; the limit is 60 % of the bare server's rate."""
    request = ClassifyRequest(images=[Image(encoded=jpeg_of_60_kb())])
    sides, ratios = list[Side](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "request"
        body.write_bytes(request.SerializeToString())
        for back in BACKS:
            with all_of(back) as loads:
                for load in loads * rounds:
                    measure(load, body, seconds)
            sides += chain.from_iterable(map(sides_of, loads))
            ratios += [words(loads[0], load) for load in loads[1:]]
    title = f"Requests of 60 kB, {CLIENTS} client processes, {CLIENTS * IN_FLIGHT} in flight"
    show(title, "calls/s", sides, "\n".join(ratios), json_file)

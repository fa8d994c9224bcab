"""Where the time of each RPC goes, seen by callers who ask without a pause.

The first four stages are the server's own, from its Prometheus metrics (convlens_stage_seconds);
the other two are what they leave of a call's time.

queue    from the arrival of the job at its pool to the start of the work on it.
decode   reading the picture, resizing and normalising it, and making methods ready: the metrics
         know no finer. Of Synthesize there is no picture.
compute  in the network. What several calls compute together is divided among them.
encode   putting the response together.
server   what is left of the call's time at the server: the way to the worker and back, the server's
         own work, and most of all waiting that is no queue: for the pictures of others in the same
         pass, and for the turns of others between two micro-batches. With one caller nobody waits
         for others, and the first two are left.
outside  what is left of the caller's time: the client's own work, and gRPC's on both sides.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import RESNET18, Address, jpeg_of_60_kb, server
from benchmarks.plain import table, write
from benchmarks.stages_callers import ASKS

ENGINES = ("embedded", "triton-local")
RPCS = tuple(ASKS)
CALLERS, SECONDS = 4, 5.0
SERVED = ("queue", "decode", "compute", "encode")
STAGES = (*SERVED, "server", "outside")


@dataclass(frozen=True)
class Row:
    """An RPC under load; of a call, the milliseconds and shares of each stage."""

    rpc: str
    calls: int
    calls_per_second: float
    # What a caller waited for an answer.
    milliseconds: float
    stages: Mapping[str, float]
    shares: Mapping[str, float]


def row_of(line: Mapping[str, Any]) -> Row:
    """The figures of a call from those of all calls of an RPC."""
    served, calls, caller = line["served"], line["calls"], line["caller"]
    seconds = {stage: served[stage] for stage in SERVED}
    seconds["server"] = served["call"] - sum(seconds.values())
    seconds["outside"] = caller - served["call"]
    return Row(
        line["rpc"],
        calls,
        calls / line["wall"],
        caller / calls * 1e3,
        {stage: each / calls * 1e3 for stage, each in seconds.items()},
        {stage: each / caller for stage, each in seconds.items()},
    )


def measured(
    address: Address, picture: bytes, rpcs: Sequence[str], callers: int, seconds: float
) -> list[Row]:
    """Asks a server, which nobody else asks, from a process of its own."""
    words = [address.server, address.metrics, str(callers), str(seconds), *rpcs]
    command = [sys.executable, "-m", "benchmarks.stages_callers", *words]
    ended = subprocess.run(command, input=picture, stdout=subprocess.PIPE, check=True)
    return [row_of(json.loads(line)) for line in ended.stdout.splitlines()]


def cells(row: Row) -> Iterator[str]:
    """A row of the table."""
    yield row.rpc
    yield f"{row.calls_per_second:.1f}"
    yield f"{row.milliseconds:.1f}"
    for stage in STAGES:
        yield f"{row.stages[stage]:.1f} ({row.shares[stage]:.1%})"


def show(title: str, rows: Sequence[Row]) -> None:
    """Prints the table of an engine."""
    heads = ("", "calls/s", "ms a call", *STAGES)
    print(title, table(heads, [list(cells(row)) for row in rows]), sep="\n", flush=True)


def run(
    json_file: Path | None,
    engines: Sequence[str] = ENGINES,
    rpcs: Sequence[str] = RPCS,
    callers: int = CALLERS,
    seconds: float = SECONDS,
) -> None:
    """A table for each engine; one RPC after the other, for so many seconds each."""
    picture = jpeg_of_60_kb()
    document: dict[str, object] = {"callers": callers, "seconds": seconds}
    for engine in engines:
        with server(engine, RESNET18) as address:
            rows = measured(address, picture, rpcs, callers, seconds)
        document[engine] = [asdict(row) for row in rows]
        write(document, json_file)
        show(f"{engine}, {callers} callers: ms a call and share of each stage", rows)

"""What the benchmarks share: pictures, a server of one's own, and tables."""

import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from convlens.client import AsyncClient

RESNET18 = "networks: [{name: resnet18, builder: 'torchvision:resnet18', weights: random}]\n"
# While the first pass fills and the last ones empty, nothing is saturated.
EDGE = 0.1


@dataclass(frozen=True)
class Address:
    """Where a server answers."""

    server: str
    metrics: str
    pid: int


def jpeg_of_60_kb() -> bytes:
    """A photograph as a JPEG file of 500 x 375 pixels and about 60 kB."""
    photograph = cast("NDArray[np.uint8]", skimage.data.astronaut())
    picture = Image.fromarray(photograph).resize((500, 375))
    for quality in range(99, 50, -1):
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality)
        if out.tell() <= 61_440:
            return out.getvalue()
    raise AssertionError("no quality gives a file of this size")


@contextmanager
def server(engine: str, networks: str = RESNET18, flags: Sequence[str] = ()) -> Generator[Address]:
    """`convlens-server` as a process of its own, with this networks.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "networks.yaml"
        file.write_text(networks)
        command = ["convlens.server", "--engine", engine]
        command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        # Tritons elsewhere serve what is in their repository.
        command += [] if engine == "triton" else ["--networks", str(file)]
        command += ["--log-format", "json", *flags]
        with serving(command) as address:
            yield address


@contextmanager
def serving(command: Sequence[str]) -> Generator[Address]:
    """A module as a process of its own, which logs where it serves as `convlens-server` does."""
    command = [sys.executable, "-m", *command]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            other: list[str] = []
            for line in process.stderr:
                if not line.startswith("{"):
                    other.append(line)
                    continue
                event = json.loads(line)
                if event.get("event") == "serving":
                    drain = partial(deque[str], process.stderr, maxlen=0)
                    threading.Thread(target=drain, daemon=True).start()
                    yield Address(event["address"], event["metrics"], process.pid)
                    return
            raise RuntimeError("the server ended before it served: " + "".join(other))
        finally:
            process.terminate()
            process.wait(60)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its name and its measurements."""

    name: str
    values: list[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


def turns(count: int, what: str) -> Iterator[int]:
    """The numbers of so many turns, told on a terminal by a bar.

    No thread draws it, which would take time from what is measured.
    """
    bar = Progress(console=Console(stderr=True), auto_refresh=False, transient=True)
    with bar:
        task = bar.add_task(what, total=count)
        for turn in range(count):
            bar.refresh()
            yield turn
            bar.advance(task)


def rate_of(times: Sequence[float]) -> float:
    """Answers per second at saturation, from the seconds at which they came."""
    edge = round(len(times) * EDGE)
    middle = times[edge : len(times) - edge]
    # Answers come in bursts, a pass each; a line through all of them does not care where it ends.
    slope, _ = np.polyfit(middle, np.arange(len(middle)), 1)
    return float(slope)


async def one_by_one(
    client: AsyncClient, jpeg: bytes, calls: int, seconds: float = math.inf
) -> list[float]:
    """Milliseconds of each Classify, one at a time; of fewer where these seconds are over."""
    values: list[float] = []
    until = time.perf_counter() + seconds
    while len(values) < calls and time.perf_counter() < until:
        started = time.perf_counter()
        await client.classify(jpeg)
        values.append((time.perf_counter() - started) * 1e3)
    return values


def p99(alone: Side, beside: Side) -> str:
    """The 99th percentiles and their ratio."""
    first, second = (float(np.percentile(side.values, 99)) for side in (alone, beside))
    return f"p99 {first:.0f} ms alone, {second:.0f} ms beside ({second / first:.2f} times)"


def show(title: str, unit: str, sides: Sequence[Side], ratio: str, json_file: Path | None) -> None:
    """Prints medians with their spread and the ratio, and writes them where asked."""
    table = Table(title=f"{title} (torch {torch.__version__}, {torch.get_num_threads()} threads)")
    for head in ("", f"median {unit}", "least", "most"):
        table.add_column(head, justify="right" if head else "left")
    for side in sides:
        row = (side.median, min(side.values), max(side.values))
        table.add_row(side.name, *(f"{value:.2f}" for value in row))
    console = Console()
    console.print(table)
    console.print(ratio)
    if json_file:
        document = {"title": title, "unit": unit, "ratio": ratio}
        sides_json = [asdict(side) | {"median": side.median} for side in sides]
        json_file.write_text(json.dumps({**document, "sides": sides_json}, indent=1))

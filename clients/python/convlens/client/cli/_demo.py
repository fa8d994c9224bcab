"""`convlens demo`."""

import json
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from convlens.client import Classification, Client
from convlens.client.cli import _options as options
from convlens.client.cli._classify import classification_json
from convlens.client.cli._embedded import EmbeddedServer, server_command
from convlens.client.cli._rows import Rows


@click.command()
@options.as_json("one JSON document")
def demo(as_json: bool) -> None:
    """Start a server, classify a few pictures through it, and end it again.

    Needs nothing but the installed packages: the server runs on this machine for as long as the
    demo does, with the network and the pictures that come with ConvLens.
    """
    pictures = bundled_pictures()
    run = run_demo(server_command(), pictures)
    if as_json:
        results = [
            {"picture": str(path), **classification_json(result)}
            for path, result in zip(pictures, run.results, strict=True)
        ]
        click.echo(json.dumps({"results": results, "seconds": run.seconds}))
    else:
        print_demo(pictures, run)


@dataclass(frozen=True, slots=True)
class Run:
    """What the demo did; times in seconds."""

    results: list[Classification]
    start_seconds: float
    seconds: float


def run_demo(command: list[str], pictures: list[Path]) -> Run:
    """Classifies the pictures on a server that `command` starts and that is gone afterwards."""
    console = Console(stderr=True)
    started = time.monotonic()
    with (
        _orderly_end(),
        console.status("Starting a server with the bundled network…"),
        EmbeddedServer(command) as server,
        Client(server.address) as client,
    ):
        ready = time.monotonic()
        results = client.classify(pictures)
        return Run(results, ready - started, time.monotonic() - ready)


def bundled_pictures() -> list[Path]:
    """The pictures that come with the package."""
    folder = Path(str(files("convlens.client") / "pictures"))
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        raise click.ClickException(f"No pictures in {folder}; install convlens-client again.")
    return pictures


def print_demo(pictures: list[Path], run: Run) -> None:
    """The results as a table, and where to go from here."""
    rows = Rows([path.name for path in pictures])
    receipt = run.results[0].receipt
    rows.line(
        f"{receipt.network}@{receipt.network_version} on {receipt.device_kind}, "
        f"served over gRPC {run.start_seconds:.1f} s after the start"
    )
    rows.line()
    for path, result in zip(pictures, run.results, strict=True):
        rows.row(path.name, _first_two(result))
    rows.line()
    rows.line(f"{len(pictures)} pictures in {run.seconds * 1000:.0f} ms; the server has ended.")
    rows.line("They are in:")
    rows.console.print(f"  {pictures[0].parent}", soft_wrap=True, markup=False)
    rows.line("To go on, start convlens-server and ask it: convlens classify FILE")


def _first_two(result: Classification) -> Classification:
    return Classification(result.classes[:2], result.receipt)


@contextmanager
def _orderly_end() -> Generator[None, None, None]:
    """Lets SIGTERM and SIGHUP end the block as Ctrl-C does, so that the server goes too."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

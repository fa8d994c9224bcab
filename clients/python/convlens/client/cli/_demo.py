"""`convlens demo`."""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any

import click
from google.protobuf.message import Message
from rich.console import Console

from convlens.client import Classification, Client
from convlens.client._operations.asking import choices_of
from convlens.client.cli import _options as options
from convlens.client.cli._calls import Picture
from convlens.client.cli._classify import classification_json
from convlens.client.cli._demo_attack import (
    Fooled,
    files_beside,
    fooled,
    fooled_json,
    fooled_lines,
    write_fooled,
)
from convlens.client.cli._embedded import EmbeddedServer, server_command
from convlens.client.cli._files import write_whole
from convlens.client.cli._report_maker import TIMEOUT, Maker, check_page
from convlens.client.cli._report_question import question
from convlens.client.cli._rows import Rows
from convlens.client.cli._tables import Column, Table, width_of
from convlens.client.cli._tally import end
from convlens.client.methods import DeepFool, ExplanationMethod
from convlens.contract.comments import comment_of
from convlens.contract.rules import kind_of, title_of

METHOD_WIDTH = 24
# Every so many pictures one is explained, and so many at most.
EVERY, EXPLAINED = 4, 3


@click.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Where the page goes; else into a new folder for temporary files.",
)
@options.as_json("one JSON document")
@click.pass_context
def demo(ctx: click.Context, out: Path | None, as_json: bool) -> None:
    """Start a server, classify, explain and attack a few pictures through it, and end it again.

    Needs nothing but the installed packages: the server runs on this machine for as long as the
    demo does, with the network and the pictures that come with ConvLens. What the answers of some
    pictures rest on is shown in a page, as 'convlens report' writes it; open it in a browser. One
    more picture is changed so little that people hardly see it, and so that the network takes it
    for something else; it goes beside the page.
    """
    if out is not None:
        check_page(out, overwrite=True)
    pictures = bundled_pictures()
    run = run_demo(server_command(), pictures)
    page = out or Path(tempfile.mkdtemp(prefix="convlens-demo-")) / "report.html"
    write_whole(page, run.maker.page("What the bundled network looks at", "convlens demo"))
    write_fooled(run.fooled, page)
    if as_json:
        click.echo(json.dumps(demo_json(pictures, run, page)))
    else:
        print_demo(pictures, run, page)
    end(ctx, run.maker.tally)


@dataclass(frozen=True, slots=True)
class Run:
    """What the demo did; times in seconds. `maker` has the page's answers, of the methods asked."""

    results: list[Classification]
    maker: Maker
    methods: Sequence[Message]
    fooled: Fooled
    start_seconds: float
    seconds: float
    explain_seconds: float


def run_demo(command: list[str], pictures: list[Path]) -> Run:
    """Asks a server that `command` starts and that is gone afterwards."""
    started = time.monotonic()
    with _orderly_end(), ExitStack() as stack:
        with Console(stderr=True).status("Starting a server with the bundled network…"):
            server = stack.enter_context(EmbeddedServer(command))
        client = stack.enter_context(Client(server.address, tls=False, token=""))
        ready = time.monotonic()
        results = client.classify(pictures)
        classified = time.monotonic()
        served = client.network()
        asked, chosen = question(served, attacks=[DeepFool()]), pictures[::EVERY][:EXPLAINED]
        maker = Maker(client, f"{served.name}@{served.version}", asked, {"timeout": TIMEOUT})
        maker.add(map(Picture.read, chosen))
        explained = time.monotonic() - classified
        found = fooled(client, chosen[len(chosen) // 2])
        return Run(
            *(results, maker, asked.methods, found),
            *(ready - started, classified - ready, explained),
        )


def bundled_pictures() -> list[Path]:
    """The pictures that come with the package."""
    folder = Path(str(files("convlens.client") / "pictures"))
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        raise click.ClickException(f"No pictures in {folder}; install convlens-client again.")
    return pictures


def demo_json(pictures: list[Path], run: Run, page: Path) -> dict[str, Any]:
    """What the demo did, as JSON."""
    results = [
        {"picture": str(path), **classification_json(result)}
        for path, result in zip(pictures, run.results, strict=True)
    ]
    return {
        "results": results,
        "seconds": run.seconds,
        "explanations": run.maker.documents,
        "explain_seconds": run.explain_seconds,
        "fooled": fooled_json(run.fooled, page),
        "report": str(page),
    }


def print_demo(pictures: list[Path], run: Run, page: Path) -> None:
    """The results as tables, and where to go from here."""
    files = files_beside(page)
    rows = Rows([*(path.name for path in pictures), files["png"].name])
    receipt = run.results[0].receipt
    rows.line(
        f"{receipt.network}@{receipt.network_version} on {receipt.device_kind}, "
        f"served over gRPC {run.start_seconds:.1f} s after the start"
    )
    rows.line()
    for path, result in zip(pictures, run.results, strict=True):
        rows.row(path.name, _first_two(result))
    rows.line(f"{len(pictures)} pictures in {run.seconds * 1000:.0f} ms")
    rows.line()
    _print_methods(run.methods)
    documents, spent = run.maker.documents, run.maker.spent
    rows.line(
        f"{len(documents)} pictures explained and attacked in {run.explain_seconds:.1f} s, by "
        f"{spent.forward_passes:,} forward and {spent.backward_passes:,} backward passes"
    )
    rows.line()
    for line in fooled_lines(run.fooled):
        rows.line(line)
    rows.row(files["png"].name, _first_two(run.fooled.again))
    rows.line()
    rows.line("The server has ended. The pictures are in:")
    rows.console.print(f"  {pictures[0].parent}", soft_wrap=True, markup=False)
    rows.line("What some of the answers rest on is in a page; open it in a browser:")
    rows.console.print(f"  {page}", soft_wrap=True, markup=False, style="bold")
    rows.line("The changed picture, and a sheet that shows it beside the original:")
    for path in files.values():
        rows.console.print(f"  {path}", soft_wrap=True, markup=False)
    rows.line("To go on, start convlens-server and ask it: convlens report FILE -o report.html,")
    rows.line("convlens attack FILE --method pgd --out DIR, convlens classify FILE --as-is")


def _print_methods(methods: Sequence[Message]) -> None:
    """Each method, and the question that it answers."""
    titles = [title_of(method) for method in methods]
    table = Table([Column("method", width_of("method", titles, METHOD_WIDTH)), Column("shows")])
    fields = choices_of(ExplanationMethod)
    for title, method in zip(titles, methods, strict=True):
        about = comment_of(f"ExplanationMethod.{fields[kind_of(method).name]}")
        table.row(title, about.rstrip("."))


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

"""`convlens-loadtest limit`: what the generator itself can do."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import yaml

from convlens.client._text import json_text
from convlens.loadtest.conducting.conductor import INTERRUPTED
from convlens.loadtest.conducting.fleet import ProcessEnded
from convlens.loadtest.conducting.run import performed
from convlens.loadtest.conducting.setup import Asked, orders_of
from convlens.loadtest.results.model import Result, Step
from convlens.loadtest.results.words import count, digits, seconds, share
from convlens.loadtest.scenario import read_scenario
from convlens.loadtest.scenario.reading import Source
from convlens.loadtest.showing.lines import Lines

# How much faster each rate is than the one before, and how much of one must come back.
FACTOR, ENOUGH = 1.25, 0.98
HIGHEST = 1e6


@click.command(context_settings={"show_default": True})
@click.option(
    "--processes", type=click.IntRange(1, 256), default=1, metavar="N", help="Load processes."
)
@click.option(
    "--side",
    type=click.IntRange(8, 4096),
    default=256,
    metavar="PIXELS",
    help="Side of the pictures that are sent, as JPEG.",
)
@click.option(
    "--from", "first", type=click.FloatRange(1), default=200, metavar="RATE", help="First rate."
)
@click.option(
    "--each",
    type=click.FloatRange(0.5),
    default=3.0,
    metavar="SECONDS",
    help="How long each rate is tried.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def limit(processes: int, side: int, first: float, each: float, as_json: bool) -> None:
    """Find the highest rate that this machine can offer.

    In place of a server stands one that computes nothing and answers at once, a process of its own
    beside each load process, so that what is found is the generator's limit, with gRPC's. Rates
    grow until requests are sent late or do not come back. Above this limit a run warns that the
    generator was the bottleneck.
    """
    source = Source("limit", _scenario(side, first, each), Path())
    with ExitStack() as stack:
        servers = [stack.enter_context(stub()) for _ in range(processes)]
        asked = Asked(source, read_scenario(source), servers, processes)
        orders = orders_of(asked)
        try:
            result = performed(asked, orders, Lines(quiet=as_json), [], [])
        except ProcessEnded as error:
            raise click.ClickException(str(error)) from error
    if result.ended_early == INTERRUPTED:
        # What was tried so far is no limit.
        raise KeyboardInterrupt
    best = best_of(result)
    size = orders[0].calls[0].bytes_of_one
    if as_json:
        document = {
            "requests_per_second": best.rate if best else None,
            "processes": processes,
            "request_bytes": round(size),
            "machine": result.machine,
            "steps": [_row(step) for step in result.phases[-1].steps],
        }
        click.echo(json_text(document))
        return
    for step in result.phases[-1].steps:
        click.echo(_line(step))
    if best is None:
        raise click.ClickException(f"Not even {digits(first)} requests a second can be offered.")
    click.echo(
        f"Up to {count(round(best.rate))} requests a second of {size / 1000:.1f} kB, by "
        f"{processes} load process{'es' if processes > 1 else ''} on {result.machine['cores']} "
        "cores, which the stand-in for a server shares."
    )


def best_of(result: Result) -> Step | None:
    """The highest rate that the generator kept up with."""
    steps = result.phases[-1].steps
    good = [step for step in steps if not (step.saturated or step.generator.bottleneck)]
    return good[-1] if good else None


@contextmanager
def stub() -> Generator[str, None, None]:
    """The address of a server that answers at once, which ends with the block."""
    command = [sys.executable, "-m", "convlens.loadtest.generator.stub"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdin and process.stdout
        address = process.stdout.readline().strip()
        if not address:
            raise click.ClickException("The stand-in for a server did not start.")
        try:
            yield address
        finally:
            # It ends when this does.
            process.stdin.close()


def _scenario(side: int, first: float, each: float) -> str:
    step = {"from": first, "to": HIGHEST, "factor": FACTOR, "each": each, "enough": ENOUGH}
    document = {
        "about": "The load generator alone.",
        "deadline": 5.0,
        "pictures": {"size": [side, side]},
        "calls": {"classify": {"rpc": "Classify"}},
        "phases": [
            {"name": "warm-up", "warm_up": True, "duration": 1.0, "open": {"rate": first}},
            {"name": "rates", "steps": step},
        ],
    }
    return yaml.safe_dump(document, sort_keys=False)


def _row(step: Step) -> dict[str, object]:
    late = step.generator.lateness
    return {
        "offered": step.rate,
        "answered": step.figures.throughput,
        "late_p99_seconds": late.p99 if late else None,
        "busy": step.generator.busy,
        "bottleneck": step.generator.bottleneck,
    }


def _line(step: Step) -> str:
    late = step.generator.lateness
    words = step.generator.bottleneck or ("not all came back" if step.saturated else "kept up")
    return (
        f"{digits(step.rate):>9}/s  sent late by {seconds(late.p99 if late else None):>8} (p99)  "
        f"loop {share(round(step.generator.busy, 2)):>6}  {words}"
    )

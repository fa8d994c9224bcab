"""The command line of the benchmarks."""

from pathlib import Path

import click

from benchmarks import classify as classify_benchmark
from benchmarks import isolation as isolation_benchmark
from benchmarks import latency as latency_benchmark

JSON = click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here."
)


@click.group()
def program() -> None:
    """Measure ConvLens beside what it stands on, both sides in one run."""


@program.command()
@click.option("--engine", type=click.Choice(["embedded", "triton-local"]), default="triton-local")
@JSON
def classify(engine: str, json_file: Path | None) -> None:
    """Classify at saturation against the bare network in a loop."""
    classify_benchmark.run(engine, json_file)


@program.command()
@JSON
def latency(json_file: Path | None) -> None:
    """What the server adds to a Classify over asking Triton directly."""
    latency_benchmark.run(json_file)


@program.command()
@JSON
def isolation(json_file: Path | None) -> None:
    """Classify beside an analysis pool that computes at full load."""
    isolation_benchmark.run(json_file)


if __name__ == "__main__":
    program()

"""The command line of the benchmarks."""

from pathlib import Path

import click

from benchmarks import classify as classify_benchmark


@click.group()
def program() -> None:
    """Measure ConvLens beside what it stands on, both sides in one run."""


@program.command()
@click.option("--engine", type=click.Choice(["embedded", "triton-local"]), default="triton-local")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here."
)
def classify(engine: str, json_file: Path | None) -> None:
    """Classify at saturation against the bare network in a loop."""
    classify_benchmark.run(engine, json_file)


if __name__ == "__main__":
    program()

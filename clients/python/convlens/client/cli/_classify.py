"""`convlens classify`."""

import csv
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import click

from convlens.client import Classification, ConvLensError
from convlens.client._outcomes import end_if_of_all, error_json
from convlens.client._picture_files import found
from convlens.client._text import json_text, printable
from convlens.client.cli import _options as options
from convlens.client.cli._connection import connected
from convlens.client.cli._progress import progress
from convlens.client.cli._rows import Rows


@click.command()
@click.argument("pictures", nargs=-1, required=True, metavar="FILE|FOLDER|GLOB...")
@options.server
@options.network
@options.top_k
@click.option(
    "--as-is",
    is_flag=True,
    help="Neither resize nor crop: they have the size of the network's input.",
)
@options.as_json("one JSON object per line and picture, failed ones with their error")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line per picture and class.")
@click.pass_context
def classify(
    ctx: click.Context,
    pictures: tuple[str, ...],
    server: str,
    network: str,
    top_k: int | None,
    as_is: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Say what is in pictures.

    Folders are searched for pictures, with the folders in them. A picture that cannot be read is
    reported on stderr, the others go on, and the exit code is 1. What would fail for every picture,
    as a network that the server does not have, is said once and ends the command.

    \b
    Examples:
      convlens classify cat.jpg
      convlens classify photos/ --top-k 1
      convlens classify 'photos/**/*.png' --network shapes@1
      convlens classify photos/ --json | jq -r 'select(.error) | .picture'
      convlens classify photos/ --csv > photos.csv
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.", ctx)
    paths = found(pictures)
    report = _Json() if as_json else _Csv() if as_csv else _Text([str(path) for path in paths])
    with connected(server) as client, progress("classifying", len(paths)) as bar:
        task = bar.add_task("", total=len(paths))
        results = client.classify_stream(
            paths,
            network=network,
            top_k=top_k,
            geometry="as_is" if as_is else "network",
            on_error="return",
        )
        with closing(results):
            for path, result in zip(paths, results, strict=True):
                end_if_of_all(result)
                report.add(str(path), result)
                bar.advance(task)
    if report.failed:
        click.echo(f"convlens: {report.failed} of {len(paths)} pictures failed.", err=True)
        ctx.exit(1)


class _Report(ABC):
    """Prints results as they come, and counts those that failed."""

    def __init__(self) -> None:
        self.failed = 0

    def add(self, picture: str, result: Classification | ConvLensError) -> None:
        """One picture's result."""
        if isinstance(result, ConvLensError):
            self.failed += 1
            self._error(picture, result)
        else:
            self._answer(picture, result)

    @abstractmethod
    def _answer(self, picture: str, result: Classification) -> None: ...

    @abstractmethod
    def _error(self, picture: str, error: ConvLensError) -> None: ...


class _Text(_Report):
    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._rows = Rows(names)

    def _answer(self, picture: str, result: Classification) -> None:
        self._rows.row(picture, result)

    def _error(self, picture: str, error: ConvLensError) -> None:
        click.echo(f"convlens: {printable(picture)}: {printable(error.message)}", err=True)


class _Json(_Report):
    def _answer(self, picture: str, result: Classification) -> None:
        self._print({"picture": picture, **classification_json(result)})

    def _error(self, picture: str, error: ConvLensError) -> None:
        self._print({"picture": picture, "error": error_json(error)})

    def _print(self, line: dict[str, Any]) -> None:
        click.echo(json_text(line))


class _Csv(_Report):
    def __init__(self) -> None:
        super().__init__()
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._writer.writerow(
            ["picture", "rank", "index", "label", "probability", "logit", "error"]
        )

    def _answer(self, picture: str, result: Classification) -> None:
        for rank, score in enumerate(result.classes, start=1):
            self._writer.writerow(
                [picture, rank, score.index, score.label, score.probability, score.logit, ""]
            )

    def _error(self, picture: str, error: ConvLensError) -> None:
        self._writer.writerow([picture, "", "", "", "", "", error.message])


def classification_json(result: Classification) -> dict[str, Any]:
    """A classification as the command's JSON has it."""
    receipt = result.receipt
    return {
        "network": f"{receipt.network}@{receipt.network_version}",
        "classes": [asdict(score) for score in result.classes],
    }

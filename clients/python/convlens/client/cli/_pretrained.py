"""The table of `convlens networks --available`: weights that networks.yaml may name."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import click

from convlens.client import PretrainedWeights
from convlens.client._text import printable

# How each order sorts: the most accurate and the cheapest first, what is not known last.
ORDERS: Mapping[str, Callable[[PretrainedWeights], float]] = {
    "top1": lambda entry: -(entry.accuracy.top1 or 0),
    "top5": lambda entry: -(entry.accuracy.top5 or 0),
    "parameters": lambda entry: entry.parameters,
    "multiply-adds": lambda entry: entry.multiply_adds,
    "size": lambda entry: entry.file_bytes,
}
BY_NAME = "name"
TITLES = (
    *("network", "weights", "top-1 %", "top-5 %", "parameters"),
    *("mult-adds", "input", "file", "recipe"),
)
NUMBERS = TITLES[2:-1]


def in_order(weights: Sequence[PretrainedWeights], order: str) -> list[PretrainedWeights]:
    """Sorted by one of ORDERS, or by name as they came."""
    return list(weights) if order == BY_NAME else sorted(weights, key=ORDERS[order])


def print_weights(weights: Sequence[PretrainedWeights], name: str, server: str) -> None:
    """One line for each, in columns; on a terminal lines are cut to fit."""
    if not weights:
        having = f" whose name contains {name!r}" if name else ""
        click.echo(f"The torchvision of the server at {server} has no network{having}.")
        return
    rows = [_cells(entry) for entry in weights]
    widths = [max(map(len, column)) for column in zip(TITLES, *rows, strict=True)]
    _print_row(TITLES, widths, bold=True)
    for row in rows:
        _print_row(row, widths)
    click.echo("* is what DEFAULT stands for", err=True)


def as_document(weights: Sequence[PretrainedWeights], server: str) -> str:
    """The same as JSON, with the contract's names and units."""
    return json.dumps({"server": server, "weights": [asdict(entry) for entry in weights]})


def _cells(entry: PretrainedWeights) -> tuple[str, ...]:
    return (
        printable(entry.network),
        printable(entry.weights) + ("*" if entry.is_default else ""),
        _percent(entry.accuracy.top1),
        _percent(entry.accuracy.top5),
        f"{entry.parameters / 1e6:.1f}M",
        f"{entry.multiply_adds / 1e9:.2f}G",
        str(entry.input.height),
        f"{entry.file_bytes / 2**20:.1f} MiB",
        printable(entry.recipe),
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.3f}"


def _print_row(cells: Sequence[str], widths: Sequence[int], *, bold: bool = False) -> None:
    padded = (
        cell.rjust(width) if title in NUMBERS else cell.ljust(width)
        for cell, title, width in zip(cells, TITLES, widths, strict=True)
    )
    line = "  ".join(padded).rstrip()
    width = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and len(line) > width:
        line = f"{line[: width - 1]}…"
    click.secho(line, bold=bold)

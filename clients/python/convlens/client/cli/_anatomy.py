"""`convlens anatomy`."""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import click
from rich.cells import cell_len

from convlens.client import Anatomy, Layer, Network, ReceptiveField
from convlens.client._text import printable
from convlens.client.cli import _options as options
from convlens.client.cli._connection import connected
from convlens.client.cli._rows import fitted

# Text without a terminal is wrapped to this many columns; tables are as wide as they are.
WIDTH = 100
PREFIXES = ("", "k", "M", "G", "T")
TITLES = (
    *("layer", "kind", "output", "params", "mult-adds"),
    *("memory", "field", "jump", "for"),
)
LEFT = frozenset({"layer", "kind", "output", "for"})
# What a narrow terminal goes without, first things first.
DISPENSABLE = ("jump", "for", "field")
# Names are cut to this many columns before any column is left out.
SHORTEST = {"kind": 10, "layer": 16}
LEGENDS = {
    "for": "for: F features, D deconvnet, G Grad-CAM",
    "field": "field, jump: of a unit, in pixels",
    "memory": "memory: of a forward pass",
}


@click.command()
@click.argument("network", default="")
@options.server
@options.timeout
@options.as_json("one JSON document, with the contract's names and units")
def anatomy(network: str, server: str, timeout: float, as_json: bool) -> None:
    """Show the layers of a network and what they cost.

    Without NETWORK it is the server's default. Figures are for one image; docs/anatomy.md says what
    each one means.

    \b
    Examples:
      convlens anatomy
      convlens anatomy vgg16@1 --server gpu-1:50051
      convlens anatomy --json | jq '.layers[] | [.name, .multiply_adds]'
    """
    with connected(server, timeout=timeout, max_attempts=1) as client:
        served = client.network(network)
    if as_json:
        name = f"{served.name}@{served.version}"
        click.echo(json.dumps({"server": server, "network": name, **asdict(served.anatomy)}))
    else:
        _print(served)


def _print(served: Network) -> None:
    found = served.anatomy
    name = printable(f"{served.name}@{served.version}")
    click.secho(f"{name}, input {_input(served)}", bold=True)
    if not found.layers:
        click.echo("The server tells nothing of its layers.")
        return
    terminal = _terminal_width()
    click.echo()
    _print_table(found.layers, terminal)
    click.echo()
    for title, text in (*_totals(found), *_warnings(found)):
        _print_item(title, text, min(terminal or WIDTH, WIDTH))


def _input(served: Network) -> str:
    size = served.input
    if served.kind == "linear":
        return f"{size.width} plain numbers"
    return f"{size.channels} × {size.height} × {size.width}"


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _print_table(layers: Sequence[Layer], width: int | None) -> None:
    rows = [_cells(layer) for layer in layers]
    columns = {title: [title, *(row[title] for row in rows)] for title in TITLES}
    widths = _fitting({title: max(map(cell_len, cells)) for title, cells in columns.items()}, width)
    for number in range(len(rows) + 1):
        cells = (
            fitted(columns[title][number], size)
            if title in LEFT
            else columns[title][number].rjust(size)
            for title, size in widths.items()
        )
        click.secho("  ".join(cells).rstrip(), bold=number == 0)
    legend = "; ".join(text for title, text in LEGENDS.items() if title in widths)
    for line in textwrap.wrap(legend, width or WIDTH):
        click.secho(line, dim=True)


def _fitting(widths: Mapping[str, int], width: int | None) -> dict[str, int]:
    """Widths of the columns that fit: names are cut first, then columns are left out."""
    fits = dict(widths)
    if width is None:
        return fits
    for title, least in SHORTEST.items():
        fits[title] -= max(0, min(_total(fits) - width, fits[title] - least))
    for title in DISPENSABLE:
        if _total(fits) > width:
            del fits[title]
    # With a column less there may be room for longer names again.
    room = max(0, width - _total(fits))
    for title in SHORTEST:
        more = min(room, widths[title] - fits[title])
        fits[title] += more
        room -= more
    return fits


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _cells(layer: Layer) -> dict[str, str]:
    supports = zip(
        "FDG",
        (layer.supports_features, layer.supports_deconvnet, layer.supports_grad_cam),
        strict=True,
    )
    return {
        "layer": printable(layer.name),
        "kind": printable(layer.kind),
        "output": "×".join(map(str, layer.output_shape)),
        "params": scaled(layer.parameters) if layer.parameters else "",
        "mult-adds": scaled(layer.multiply_adds) if layer.multiply_adds else "",
        "memory": scaled(layer.forward_bytes, "B") if layer.forward_bytes else "",
        **_seen(layer.receptive_field),
        "for": "".join(letter if supported else "·" for letter, supported in supports),
    }


def _seen(seen: ReceptiveField | None) -> dict[str, str]:
    """Both axes where they differ: a window of 1 × 7 sees less of the height."""
    if seen is None:
        return {"field": "", "jump": ""}
    sizes = dict.fromkeys((seen.vertical.size, seen.horizontal.size))
    jumps = dict.fromkeys((seen.vertical.jump, seen.horizontal.jump))
    return {"field": "×".join(map(str, sizes)), "jump": "×".join(map(str, jumps))}


def _totals(found: Anatomy) -> Iterator[tuple[str, str]]:
    memory = found.training_memory
    each = memory.activation_bytes + memory.activation_gradient_bytes
    fixed = memory.parameter_bytes + memory.parameter_gradient_bytes + memory.momentum_bytes
    yield "parameters", scaled(found.parameters)
    yield "multiply-adds", scaled(found.multiply_adds)
    yield (
        "activations",
        f"{scaled(found.activations)} values: {scaled(found.forward_bytes, 'B')} forward, "
        f"{scaled(found.training_bytes, 'B')} forward and backward",
    )
    yield (
        "training",
        f"{scaled(fixed, 'B')} for parameters, their gradients and momentum; "
        f"{scaled(each, 'B')} for each image of a batch",
    )
    if found.grammar:
        yield "grammar", found.grammar


def _warnings(found: Anatomy) -> Iterator[tuple[str, str]]:
    """One for each sentence, with the layers that it is about."""
    layers: dict[str, list[str]] = {}
    for warning in found.warnings:
        layers.setdefault(warning.sentence, []).append(warning.layer)
    for sentence, names in layers.items():
        yield "warning", f"{_listed(names)}: {sentence}"


def _listed(names: Sequence[str]) -> str:
    shown = names if len(names) < 4 else [*names[:2], f"{len(names) - 2} more"]
    return ", ".join(shown)


def _print_item(title: str, text: str, width: int) -> None:
    """A title and its text, wrapped beside it."""
    indent = " " * 15
    lines = _wrapped(printable(text), width - len(indent)) or [""]
    click.echo(click.style(title.ljust(len(indent)), bold=True) + lines[0])
    for line in lines[1:]:
        click.echo(indent + line)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def scaled(count: int, unit: str = "") -> str:
    """A count in a unit as people write it: 138357544 is "138.36 M", 4096 B is "4.10 kB"."""
    value, prefix = float(count), 0
    while round(value, 2) >= 1000 and prefix < len(PREFIXES) - 1:
        value, prefix = value / 1000, prefix + 1
    number = f"{value:.2f}" if prefix else str(count)
    return f"{number} {PREFIXES[prefix]}{unit}".rstrip()

"""`convlens replay`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from convlens.client._picture_files import find
from convlens.client._text import json_text, printable, shown
from convlens.client.cli import _options as options
from convlens.client.cli._calls import Picture, shown_progress
from convlens.client.cli._comparison import Comparison, causes
from convlens.client.cli._connection import connected
from convlens.client.cli._receipts import Recorded, path_of, read_receipts
from convlens.client.cli._replay_calls import asked_again
from convlens.client.cli._tables import Column, Table, width_of

# Characters of a value that are shown: of a digest, the first ones tell it from others.
SHOWN = 20


@click.command()
@click.argument("receipt", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("pictures", nargs=-1, metavar="[FILE|FOLDER|GLOB]...")
@options.server
@click.option(
    "--timeout",
    type=options.SECONDS,
    metavar="SECONDS",
    help="How long a call may take.",
)
@options.as_json("one JSON document")
@click.pass_context
def replay(
    ctx: click.Context,
    receipt: Path,
    pictures: tuple[str, ...],
    server: str,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Compute the answers of a receipt again, and compare the bits.

    RECEIPT is the receipt.json of 'convlens explain --out' or 'convlens attack --out', or the one
    that 'convlens synthesize' writes beside its pictures. The pictures are those that it names;
    where they are not there any more, or have become others, give the files. They are recognised by
    their content. The exit code is 0 if every answer is equal bit for bit, else 1. How far a map is
    from what it was can be said where 'convlens explain' was given --maps. Pictures that were made
    are made again from the beginning, also where a checkpoint was gone on from.

    \b
    Examples:
      convlens replay maps/receipt.json
      convlens replay star.receipt.json
      convlens replay maps/receipt.json --server gpu-2:50051
      convlens replay maps/receipt.json moved/photo.jpg --json
    """
    recorded = read_receipts(receipt)
    given = _given(recorded, find(pictures))
    found = [[_picture(entry, given) for entry in call.pictures] for call in recorded]
    differences: dict[str, tuple[Any, Any]] = {}
    comparisons: list[Comparison] = []
    with connected(server) as client, shown_progress("computing") as show:
        for call, own in zip(recorded, found, strict=True):
            again, now = asked_again(client, call, own, receipt.parent, timeout, show)
            comparisons += again
            if now is not None:
                differences.update(causes(call, now))
    if as_json:
        _print_json(receipt, differences, comparisons)
    else:
        _print(differences, comparisons)
    ctx.exit(0 if all(each.equal for each in comparisons) else 1)


def _given(recorded: Sequence[Recorded], paths: Sequence[Path]) -> dict[str, Picture]:
    """The pictures among the arguments, by their digests."""
    wanted = {entry["digest"] for call in recorded for entry in call.pictures}
    found: dict[str, Picture] = {}
    for path in paths:
        picture = Picture.read(path)
        if picture.error is not None:
            raise picture.error
        if picture.digest not in wanted:
            raise click.ClickException(f"{shown(path)} is no picture of the receipt.")
        found[picture.digest] = picture
    return found


def _picture(entry: Mapping[str, Any], given: Mapping[str, Picture]) -> Picture:
    """The picture of the receipt, from the given ones or from where it was."""
    if entry["digest"] in given:
        return given[entry["digest"]]
    path = path_of(entry)
    picture = Picture.read(path)
    if picture.error is not None:
        problem = picture.error.message.rstrip(".")
    elif picture.digest != entry["digest"]:
        problem = "It has become another picture"
    else:
        return picture
    raise click.ClickException(
        f"{shown(path)}, a picture of the receipt: {problem}; give the file as it was."
    )


def _print_json(
    receipt: Path, differences: Mapping[str, tuple[Any, Any]], comparisons: Sequence[Comparison]
) -> None:
    document = {
        "receipt": str(receipt),
        "equal": all(each.equal for each in comparisons),
        "causes": {name: {"then": t, "now": n} for name, (t, n) in differences.items()},
        "answers": [asdict(each) for each in comparisons],
    }
    click.echo(json_text(document))


def _print(differences: Mapping[str, tuple[Any, Any]], comparisons: Sequence[Comparison]) -> None:
    for name, pair in differences.items():
        then, now = (printable(str(value))[:SHOWN] or "nothing" for value in pair)
        click.secho(f"{name.replace('_', ' ')}: {then} then, {now} now", bold=True)
    table = Table(
        [
            Column("picture", _width("picture", (c.picture for c in comparisons)), False, False),
            Column("method", _width("method", (c.method for c in comparisons))),
            Column("class", _width("class", (c.label for c in comparisons))),
            Column("outcome"),
        ]
    )
    for each in comparisons:
        table.row(each.picture, each.method, each.label, each.words)
    equal = sum(each.equal for each in comparisons)
    click.echo(f"{equal} of {len(comparisons)} answers are equal bit for bit.")


def _width(title: str, texts: Iterable[str]) -> int:
    return width_of(title, list(texts), 28)

"""`convlens replay`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from convlens.client import Client
from convlens.client._operations.asking import MAP_TYPES
from convlens.client.cli import _options as options
from convlens.client.cli._attack_calls import AttackCall, attacked
from convlens.client.cli._calls import Call, Picture, Show, explained, shown_progress
from convlens.client.cli._comparison import Comparison, causes, compared, compared_verdicts
from convlens.client.cli._json import json_text
from convlens.client.cli._pictures import find
from convlens.client.cli._receipts import Recorded, path_of, read_receipts
from convlens.client.cli._rows import printable, shown
from convlens.client.cli._tables import Column, Table, width_of
from convlens.v1 import adversarial_pb2
from convlens.v1 import explanation_pb2 as pb

TYPE_NAMES: Mapping[int, Any] = {number: name for name, number in MAP_TYPES.items()}
# Characters of a value that are shown: of a digest, the first ones tell it from others.
SHOWN = 20


@click.command()
@click.argument("receipt", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("pictures", nargs=-1, metavar="[FILE|FOLDER|GLOB]...")
@options.server
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
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

    RECEIPT is the receipt.json of 'convlens explain --out' or 'convlens attack --out'. The pictures
    are those that it names; where they are not there any more, or have become others, give the
    files. They are recognised by their content. The exit code is 0 if every answer is equal bit for
    bit, else 1. How far a map is from what it was can be said where 'convlens explain' was given
    --maps.

    \b
    Examples:
      convlens replay maps/receipt.json
      convlens replay maps/receipt.json --server gpu-2:50051
      convlens replay maps/receipt.json moved/photo.jpg --json
    """
    recorded = read_receipts(receipt)
    given = _given(recorded, find(pictures))
    found = [[_picture(entry, given) for entry in call.pictures] for call in recorded]
    differences: dict[str, tuple[Any, Any]] = {}
    comparisons: list[Comparison] = []
    with Client(server) as client, shown_progress("computing") as show:
        for call, own in zip(recorded, found, strict=True):
            network = f"{call.receipt.network}@{call.receipt.network_version}"
            given = {"network": network, "timeout": timeout}
            if isinstance(call.request, adversarial_pb2.AttackRequest):
                again = _attacked(client, own, call.request, given, show)
                comparisons += compared_verdicts(call, again)
            else:
                again = _explained(client, own, call.request, given, show)
                comparisons += compared(call, again, receipt.parent)
            if again.done is not None:
                differences.update(causes(call, again.done.receipt))
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


def _explained(
    client: Client,
    pictures: Sequence[Picture],
    request: pb.ExplainRequest,
    given: Mapping[str, Any],
    show: Show,
) -> Call:
    """What was asked then."""
    options = {
        **given,
        "targets": list(request.targets),
        "dtype": TYPE_NAMES.get(request.dtype),
        "rendering": request.rendering if request.HasField("rendering") else None,
        "localization": request.localization if request.HasField("localization") else None,
        "measures": list(request.measures),
        "seed": request.seed if request.HasField("seed") else None,
        "stable_share": request.stable_share if request.HasField("stable_share") else None,
        "allow_partial": request.allow_partial,
    }
    known = _with_truths(pictures, request.true_regions)
    return explained(client, known, list(request.methods), options, show)


def _attacked(
    client: Client,
    pictures: Sequence[Picture],
    request: adversarial_pb2.AttackRequest,
    given: Mapping[str, Any],
    show: Show,
) -> AttackCall:
    """What was asked then, but for how many classes are named, which changes nothing."""
    goal = request.goal.WhichOneof("goal")
    options = {
        **given,
        "target": getattr(request.goal, goal) if goal in ("target", "least_likely") else None,
        "stop_at_success": request.stop_at_success,
        "until_rounded_succeeds": request.until_rounded_succeeds,
        "through_resize": request.through_resize,
        "return_pixels": request.return_pixels,
        "seed": request.seed,
        "allow_partial": request.allow_partial,
    }
    return attacked(client, _with_truths(pictures, request.labels), request.method, options, show)


def _with_truths(pictures: Sequence[Picture], truths: Sequence[Any]) -> list[Picture]:
    pairs = zip(pictures, list(truths) or [None] * len(pictures), strict=True)
    return [Picture(picture.path, truth, picture.data) for picture, truth in pairs]


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

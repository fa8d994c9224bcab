"""`convlens explain`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from google.protobuf.message import Message

from convlens.client import Cost, methods
from convlens.client._operations.asking import choices_of
from convlens.client._picture_files import found
from convlens.client.cli import _options as options
from convlens.client.cli._calls import Picture, batches, explained, shown_progress
from convlens.client.cli._connection import connected
from convlens.client.cli._explain_output import AnswerOutput, AnswerTable
from convlens.client.cli._folder import MapFolder
from convlens.client.cli._method_help import method_document, method_help
from convlens.client.cli._output import estimated, print_estimate
from convlens.client.cli._specs import Choice, Parameters
from convlens.client.cli._tally import end
from convlens.client.cli._targets import Region, Target
from convlens.contract import rule_of
from convlens.contract.rules import kind_of
from convlens.v1 import explanation_pb2 as pb

FORM = "NAME[:PARAM=VALUE,...]"
# What --help-methods describes: what is one of several messages, and what is one.
DESCRIBED = (
    {"--method": methods.ExplanationMethod, "--measure": methods.QualityMeasure},
    {"--rendering": methods.Rendering, "--localization": methods.Localization},
)
STABLE = rule_of(pb.ExplainRequest.DESCRIPTOR.fields_by_name["stable_share"])


@click.command()
@click.argument("pictures", nargs=-1, metavar="FILE|FOLDER|GLOB...")
@click.option(
    "--method",
    "asked",
    multiple=True,
    type=Choice("method", methods.ExplanationMethod),
    metavar=FORM,
    help="How to explain, and with what parameters; several times for several.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=Target(),
    metavar="LABEL|INDEX|rank:N",
    help="A class to explain; several times for several. Else each picture's prediction.",
)
@options.out("Folder for the maps as PNG, and for receipt.json.")
@click.option("--maps", is_flag=True, help="Write the numbers of the maps too, as .npy files.")
@options.overwrite
@click.option(
    "--overlay/--heat-map", default=None, help="Lay the map over the picture, or draw it alone."
)
@click.option(
    "--rendering",
    type=Parameters(methods.Rendering),
    metavar="PARAM=VALUE,...",
    help="How maps are drawn.",
)
@click.option("--localize", is_flag=True, help="Look for the object in each map.")
@click.option(
    "--localization",
    type=Parameters(methods.Localization),
    metavar="PARAM=VALUE,...",
    help="The same, saying how.",
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    type=Choice("measure", methods.QualityMeasure),
    metavar=FORM,
    help="How to judge each map; several times for several.",
)
@click.option(
    "--true-region",
    "regions",
    multiple=True,
    type=Region(),
    metavar="L,T,R,B|FILE",
    help="Where the object is: a box in pixels, or a mask; once for each picture.",
)
@click.option("--half", is_flag=True, help="Keep 16 bits of each number instead of 32.")
@options.seed
@click.option(
    "--stable-share",
    type=options.FiniteRange(STABLE.min, STABLE.max),
    metavar="SHARE",
    help=f"Stop improving a map once this {STABLE.unit} stays the same.",
)
@options.time_of_call
@options.allow_partial
@options.estimate
@options.help_methods
@options.server
@options.network
@options.as_json("one JSON document")
@click.pass_context
def explain(
    ctx: click.Context,
    pictures: tuple[str, ...],
    asked: tuple[Any, ...],
    out: Path | None,
    maps: bool,
    overwrite: bool,
    regions: tuple[Any, ...],
    estimate: bool,
    help_methods: bool,
    server: str,
    as_json: bool,
    **question: Any,
) -> None:
    """Show what in pictures a network's answers rest on.

    A picture that cannot be read, or a method that does not apply, is reported; the others go on,
    and the exit code is 1. With --out the maps are drawn into files as photo-saliency-cat.png, and
    receipt.json keeps what 'convlens replay' needs to compute them again and compare the bits.

    \b
    Examples:
      convlens explain photo.jpg --method saliency --out maps
      convlens explain photo.jpg --method occlusion:window=32,stride=16 \\
          --method grad-cam --target cat --target rank:2 --overlay --out maps
      convlens explain photo.jpg --method smooth-grad --measure deletion --json
      convlens explain photos/ --method integrated-gradients --estimate
      convlens explain --help-methods
    """
    if help_methods:
        click.echo(method_document(*DESCRIBED) if as_json else method_help(*DESCRIBED))
        return
    _check(ctx, pictures, asked, out, maps)
    paths = found(pictures)
    if regions and len(regions) != len(paths):
        raise click.UsageError(
            f"--true-region is there {len(regions)} times for {len(paths)} pictures.", ctx
        )
    read = map(Picture.read, paths, regions or [None] * len(paths))
    given = _given(question, drawn=out is not None)
    with connected(server) as client:
        if estimate:

            def ask(batch: Sequence[Picture]) -> Cost:
                return client.estimate([picture.data for picture in batch], asked, **given)

            print_estimate(estimated(read, ask), as_json=as_json)
            return
        folder = _folder(out, asked, maps=maps, overwrite=overwrite) if out else None
        table = None if as_json else AnswerTable(paths, asked, given, files=out is not None)
        output = AnswerOutput(folder, table)
        with shown_progress("explaining") as show:
            for batch in batches(read):
                call = explained(client, batch, asked, given, show)
                output.add(call.outcomes, call.done)
    output.end()
    end(ctx, output.tally)


def _check(
    ctx: click.Context,
    pictures: Sequence[str],
    asked: Sequence[Message],
    out: Path | None,
    maps: bool,
) -> None:
    if not pictures:
        raise click.UsageError("Missing argument 'FILE|FOLDER|GLOB...'.", ctx)
    if not asked:
        raise click.UsageError(
            "Missing option '--method'; 'convlens explain --help-methods' lists what there is.", ctx
        )
    if maps and out is None:
        raise click.UsageError("--maps needs --out.", ctx)


def _given(question: dict[str, Any], *, drawn: bool) -> dict[str, Any]:
    """The options of the command as those of `explain_stream`."""
    overlay, rendering = question.pop("overlay"), question.pop("rendering")
    if not drawn and (overlay is not None or rendering is not None):
        raise click.UsageError("--overlay, --heat-map and --rendering need --out.")
    if drawn:
        question["rendering"] = methods.Rendering()
        question["rendering"].MergeFrom(rendering or methods.Rendering())
        if overlay is not None:
            style = pb.RENDERING_STYLE_OVERLAY if overlay else pb.RENDERING_STYLE_HEAT_MAP
            question["rendering"].style = style
    if question.pop("localize") and question["localization"] is None:
        question["localization"] = methods.Localization()
    question["dtype"] = "float16" if question.pop("half") else None
    return question


def _folder(out: Path, asked: Sequence[Message], *, maps: bool, overwrite: bool) -> MapFolder:
    names = choices_of(methods.ExplanationMethod)
    return MapFolder(out, [names[kind_of(m).name] for m in asked], maps=maps, overwrite=overwrite)

"""`convlens report`."""

import os
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from google.protobuf.message import Message

from convlens.client import methods
from convlens.client._picture_files import found
from convlens.client._text import json_text, printable, shown
from convlens.client.cli import _options as options
from convlens.client.cli._calls import Picture
from convlens.client.cli._connection import connected
from convlens.client.cli._explain import FORM
from convlens.client.cli._files import write_whole
from convlens.client.cli._report_maker import TIMEOUT, Maker, check_page
from convlens.client.cli._report_question import MOST_UNITS, UNITS, question
from convlens.client.cli._specs import Choice
from convlens.client.cli._study_page import study_of
from convlens.client.cli._tally import end
from convlens.client.cli._targets import Target


@click.command()
@click.argument("pictures", nargs=-1, required=True, metavar="FILE|FOLDER|GLOB...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="The page.",
)
@click.option(
    "--method",
    "asked",
    multiple=True,
    type=Choice("method", methods.ExplanationMethod),
    metavar=FORM,
    help="How to explain; several times for several. Else by six methods that suit most networks.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=Target(),
    metavar="LABEL|INDEX|rank:N",
    help="A class to explain; several times for several. Else each picture's prediction.",
)
@options.top_k
@click.option(
    "--measure",
    "measures",
    multiple=True,
    type=Choice("measure", methods.QualityMeasure),
    metavar=FORM,
    help="How to judge each map; several times for several.",
)
@click.option(
    "--units",
    type=click.IntRange(0, MOST_UNITS),
    default=UNITS,
    show_default=True,
    metavar="N",
    help="Project the N strongest units of a layer down to the pixels; 0 for none.",
)
@click.option(
    "--layer",
    metavar="NAME",
    help="The layer of these units; else the deepest one whose units see parts of a picture.",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    type=Choice("attack", methods.AttackMethod),
    metavar=FORM,
    help="How to look for a small change that fools the network; several times for several.",
)
@click.option(
    "--study",
    "studies",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Show what 'convlens study' wrote there, too; several times for several.",
)
@click.option("--overlay", is_flag=True, help="Show maps over their pictures at first.")
@click.option("--title", metavar="TEXT", help="The title of the page.")
@click.option("--overwrite", is_flag=True, help="Write over a file that is there.")
@options.seed
@click.option(
    "--timeout",
    type=options.SECONDS,
    default=TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long a call may take; 16 pictures are one call.",
)
@click.option(
    "--allow-partial", is_flag=True, help="Take what there is then, in place of an error."
)
@options.server
@options.network
@options.as_json("one JSON document")
@click.pass_context
def report(
    ctx: click.Context,
    pictures: tuple[str, ...],
    out: Path,
    asked: tuple[Message, ...],
    units: int,
    layer: str | None,
    attacks: tuple[Message, ...],
    studies: tuple[Path, ...],
    overlay: bool,
    title: str | None,
    overwrite: bool,
    server: str,
    network: str,
    top_k: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Write a page that shows pictures, answers, and what these rest on.

    One HTML file that needs no other: picture by picture the best classes, the map of every method
    with its scale and its scores, the strongest units of a layer with what they answered to and,
    with --attack, how easily the network is fooled. A picture that cannot be read is reported, also
    on the page; the others go on, and the exit code is 1. Of the methods that are taken without
    --method, those that do not apply to the network are left out with a note.

    \b
    Examples:
      convlens report photo.jpg -o report.html
      convlens report photos/ -o report.html --target cat --target rank:2
      convlens report photo.jpg -o report.html --method grad-cam \\
          --method occlusion:window=32,stride=16 --measure deletion
      convlens report 'photos/*.png' -o report.html --units 9 --layer features.7
      convlens report photo.jpg -o report.html --study patches --study map
      convlens report photo.jpg -o report.html --attack deepfool \\
          --attack pgd:epsilon=4/255
      convlens explain --help-methods   (lists methods and measures)
      convlens attack --help-methods    (lists attacks)
    """
    check_page(out, overwrite=overwrite)
    sections = [study_of(folder, out.parent, n) for n, folder in enumerate(studies, 1)]
    paths = found(pictures)
    started = time.monotonic()
    with connected(server) as client:
        served = client.network(network)
        name = f"{served.name}@{served.version}"
        asks = question(served, asked, units, layer, attacks)
        maker = Maker(client, name, asks, given, top_k)
        maker.add(map(Picture.read, paths))
    if maker.has_answers:
        command = shlex.join(["convlens", *ctx.obj])
        page = maker.page(title, command, overlay=overlay, studies=sections)
        write_whole(out, page)
    _tell(maker, out, time.monotonic() - started, as_json)
    end(ctx, maker.tally)


def _tell(maker: Maker, out: Path, seconds: float, as_json: bool) -> None:
    """What there is to say when all is done."""
    if as_json:
        document = {
            "report": os.path.abspath(out) if maker.has_answers else None,
            "network": maker.network,
            "pictures": maker.documents,
            "answers": maker.tally.answers,
            "failed": maker.tally.failed,
            "cost": asdict(maker.spent),
            "estimated_cost": asdict(maker.most),
            "seconds": round(seconds, 3),
        }
        click.echo(json_text(document))
    elif maker.has_answers:
        pictures = len(maker.documents)
        click.echo(
            f"{shown(out)}: {pictures} picture{'s' if pictures > 1 else ''} through "
            f"{printable(maker.network)} in {seconds:.1f} s"
        )
    else:
        click.echo("convlens: no picture has an answer; nothing is written.", err=True)

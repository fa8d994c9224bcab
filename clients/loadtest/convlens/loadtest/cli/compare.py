"""`convlens-loadtest compare`."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from convlens.client._text import json_text, shown
from convlens.loadtest.cli.results import read_result
from convlens.loadtest.results.comparing import Difference, differences, misfits

BROKEN = 3
# Above which a figure is marked, where nothing else is said.
MARKED = 0.1
FILE = click.Path(path_type=Path, dir_okay=False)


def _share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A share as "10%" or "0.1"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", value.strip()) if value else None
    if value is not None and match is None:
        raise click.BadParameter(f"{value!r} is no share; write it as 10% or 0.1.")
    return float(match[1]) / (100 if match[2] else 1) if match else None


@click.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option(
    "--fail-above",
    callback=_share,
    metavar="SHARE",
    help="End with 3 where a figure is worse by more than that, as 10%.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
@click.pass_context
def compare(
    ctx: click.Context, before: Path, after: Path, fail_above: float | None, as_json: bool
) -> None:
    """Compare the results of two runs.

    Figures that are worse by more than 10 %, or than --fail-above, are marked. Percentiles of few
    requests are shown, and never marked: they differ by chance.

    \b
      convlens-loadtest smoke --output before.json
      convlens-loadtest smoke --output after.json
      convlens-loadtest compare before.json after.json --fail-above 15%
    """
    one, other = read_result(before), read_result(after)
    found = list(differences(one, other))
    if not found:
        raise click.ClickException(
            f"{shown(before)} and {shown(after)} have no phase in common: they are of "
            f"{one.scenario} and {other.scenario}. Compare two runs of one scenario."
        )
    reasons = list(misfits(one, other))
    most = MARKED if fail_above is None else fail_above
    worse = [each for each in found if each.change > most and not each.is_thin]
    if as_json:
        click.echo(json_text(_document(found, worse, reasons)))
    else:
        _print(found, worse, reasons, most)
    ctx.exit(BROKEN if worse and fail_above is not None else 0)


def _print(
    found: Sequence[Difference], worse: Sequence[Difference], reasons: Sequence[str], most: float
) -> None:
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, title in enumerate(("", "", "before", "after", "change", "")):
        table.add_column(title, justify="left" if number in (0, 1, 5) else "right", no_wrap=True)
    part = ""
    for each in found:
        mark = Text("worse", "bold red") if each in worse else Text("")
        if each.change < -most and not each.is_thin:
            mark = Text("better", "green")
        if each.is_thin:
            mark = Text("few requests", "dim")
        name = Text(each.part if each.part != part else "", "bold")
        part = each.part
        table.add_row(name, each.metric, each.before, each.after, _change(each), mark)
    console.print(table)
    for reason in reasons:
        console.print(Text(f"Mind that {reason}.", "yellow"))
    console.print(
        Text(
            f"{len(worse)} of {len(found)} figures are worse by more than {100 * most:.0f} %.",
            "bold",
        )
    )


def _change(each: Difference) -> str:
    # As the figure itself moved: rates that are worse are lower.
    down = each.metric in ("peak", "goodput")
    value = -each.change if down else each.change
    return f"{100 * value:+.1f} %"


def _document(
    found: Sequence[Difference], worse: Sequence[Difference], reasons: Sequence[str]
) -> dict[str, object]:
    rows = [
        {
            "part": each.part,
            "metric": each.metric,
            "before": each.before,
            "after": each.after,
            "worse_by": each.change,
            "few_requests": each.is_thin,
            "is_worse": each in worse,
        }
        for each in found
    ]
    return {"differences": rows, "worse": len(worse), "mind": list(reasons)}

"""`convlens-loadtest SCENARIO`."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console

from convlens.client._text import json_text
from convlens.client._transport import ADDRESS_VARIABLE, DEFAULT_ADDRESS
from convlens.client.cli import _connection as connection
from convlens.client.cli._files import check_folder, check_new, write_whole
from convlens.loadtest.cli.scenarios import scenarios_like
from convlens.loadtest.conducting.fleet import ProcessEnded
from convlens.loadtest.conducting.run import looked_at, performed
from convlens.loadtest.conducting.server_metrics import NoMetrics
from convlens.loadtest.conducting.setup import Asked, orders_of
from convlens.loadtest.results.judging import verdicts
from convlens.loadtest.results.limits import BadLimit, Limit, check_names, parse_limit
from convlens.loadtest.results.model import Result
from convlens.loadtest.scenario import BadScenario, Scenario, read_scenario, text_of
from convlens.loadtest.scenario.changes import changed
from convlens.loadtest.scenario.reading import Source
from convlens.loadtest.showing.lines import Lines
from convlens.loadtest.showing.live import Live
from convlens.loadtest.showing.summary import print_summary

FAILED, BROKEN, INTERRUPTED = 1, 3, 130
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"show_default": True})
@click.argument("scenario", shell_complete=scenarios_like)
@click.option(
    "--server",
    "servers",
    metavar="HOST:PORT",
    multiple=True,
    envvar=ADDRESS_VARIABLE,
    default=[DEFAULT_ADDRESS],
    show_envvar=True,
    help="Where the server is; several share the load.",
)
@connection.options
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    metavar="N",
    help="Load processes, which share the load; one takes up to a core.",
)
@click.option(
    "--metrics",
    multiple=True,
    metavar="URL",
    help="The server's metrics, as http://HOST:9090/metrics; may be repeated.",
)
@click.option(
    "--assert",
    "limits",
    multiple=True,
    metavar="LIMIT",
    help="A limit, as 'p99 < 200ms' or 'overload: goodput >= 0.9 * peak'; may be repeated.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value in the scenario, as phases.overload.duration=10s; may be repeated.",
)
@click.option("--output", type=FILE, metavar="FILE", help="Write the result as JSON.")
@click.option("--html", type=FILE, metavar="FILE", help="Write the result as a page.")
@click.option("--overwrite", is_flag=True, help="Write over files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="Say nothing while it runs.")
@click.pass_context
def run(
    ctx: click.Context,
    scenario: str,
    servers: Sequence[str],
    processes: int,
    metrics: Sequence[str],
    limits: Sequence[str],
    changes: Sequence[str],
    output: Path | None,
    html: Path | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Put the load of a SCENARIO on a server; `run` itself may be left out.

    SCENARIO is a YAML file, or the name of one that comes with the command ('convlens-loadtest
    list'). Every call in it is sent once before the load begins, so that a wrong one is told at
    once. Ctrl-C ends the run early, with the results so far; a second one just ends it.

    \b
      convlens-loadtest smoke
      convlens-loadtest classify-saturation --processes 2 --html page.html
      convlens-loadtest mine.yaml --set phases.rush.duration=10s --json
    """
    for file in (output, html):
        if file is not None:
            check_folder(file)
            check_new(file, overwrite=overwrite)
    try:
        source = _with_changes(text_of(scenario), changes)
        checked = read_scenario(source)
        allowed = list(_limits(checked, limits))
        given = ctx.meta.get(connection.GIVEN, {})
        command = shlex.join(["convlens-loadtest", *ctx.obj]) if ctx.obj else ""
        asked = Asked(source, checked, servers, processes, metrics, given, command)
        result = _performed(asked, quiet=quiet or as_json)
    except (BadScenario, BadLimit, NoMetrics, ProcessEnded) as error:
        raise click.ClickException(str(error)) from error
    result.verdicts = verdicts(allowed, result)
    # What cannot be written has been shown all the same.
    if as_json:
        click.echo(json_text(result.document()))
    else:
        print_summary(result, _stdout())
    _write(result, output, html)
    ctx.exit(_code(result))


def _performed(asked: Asked, *, quiet: bool) -> Result:
    orders = orders_of(asked)
    console = Console(stderr=True)
    lines = Lines(quiet=quiet)
    networks, warnings = looked_at(orders[0], lines.say)
    is_live = console.is_terminal and not quiet
    shown = Live(asked.scenario, console) if is_live else nullcontext(lines)
    with shown as view:
        return performed(asked, orders, view, networks, warnings)


def _with_changes(source: Source, changes: Sequence[str]) -> Source:
    return Source(source.name, changed(source, changes), source.folder) if changes else source


def _limits(scenario: Scenario, given: Sequence[str]) -> Iterator[Limit]:
    """The limits of the scenario and those of the command line, all of what there is."""
    phases = [phase.name for phase in scenario.phases]
    for text, within in (
        *((text, ()) for text in (*scenario.limits, *given)),
        *((text, (phase.name,)) for phase in scenario.phases for text in phase.limits),
        *((text, (name,)) for name, call in scenario.calls.items() for text in call.limits),
    ):
        limit = parse_limit(text, within)
        check_names(limit, phases, scenario.calls, scenario.tenants)
        yield limit


def _write(result: Result, output: Path | None, html: Path | None) -> None:
    if output is not None:
        write_whole(output, json_text(result.document(), indent=1) + "\n")
    if html is not None:
        from convlens.loadtest.page.page import page_of

        write_whole(html, page_of(result))


def _code(result: Result) -> int:
    if result.ended_early == "interrupted":
        return INTERRUPTED
    if result.ended_early or not result.total.answered:
        click.echo(
            f"convlens-loadtest: {result.ended_early or 'no request was answered'}.", err=True
        )
        return FAILED
    return 0 if all(verdict.holds for verdict in result.verdicts) else BROKEN


def _stdout() -> Console:
    """Where there is no terminal, lines may be as long as they like."""
    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=200)

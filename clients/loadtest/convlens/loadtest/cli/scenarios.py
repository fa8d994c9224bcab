"""`convlens-loadtest list` and `convlens-loadtest show`."""

import json

import click
from click.shell_completion import CompletionItem

from convlens.loadtest.scenario import BadScenario, read_scenario, shipped, text_of


def scenarios_like(
    ctx: click.Context, param: click.Parameter | None, incomplete: str
) -> list[CompletionItem]:
    """What may follow: scenarios that come with the command, and files."""
    names = [name for name in shipped() if name.startswith(incomplete)]
    files = [] if names and incomplete else [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in names] + files


def only_shipped(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Scenarios that come with the command."""
    return [CompletionItem(name) for name in shipped() if name.startswith(incomplete)]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_scenarios(as_json: bool) -> None:
    """List the scenarios that come with the command."""
    found = {name: read_scenario(text_of(name)) for name in shipped()}
    if as_json:
        rows = [
            {"name": name, "about": each.about, "seconds": each.longest}
            for name, each in found.items()
        ]
        click.echo(json.dumps({"scenarios": rows}))
        return
    width = max(map(len, found))
    for name, each in found.items():
        click.echo(f"{name.ljust(width)}  {_lasting(each.longest).rjust(6)}  {each.about}")


@click.command()
@click.argument("name", shell_complete=only_shipped)
def show(name: str) -> None:
    """Print a scenario.

    \b
    To make one of your own of it:
      convlens-loadtest show smoke > mine.yaml
    """
    try:
        click.echo(text_of(name).text, nl=False)
    except BadScenario as error:
        raise click.ClickException(str(error)) from error


def _lasting(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

"""`convlens study human`."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convlens.client.cli._studies import options
from convlens.client.cli._studies.common import Run, folder_argument, labels, studying

if TYPE_CHECKING:
    from convlens.client.studies import HumanStudy


@click.command("human")
@folder_argument
@labels
@click.option(
    "--count", type=click.IntRange(1), metavar="N", help="At most so many pictures; else all."
)
@click.option(
    "--guesses",
    type=click.IntRange(1, 5),
    default=1,
    show_default=True,
    metavar="N",
    help="Answers that may be given to a picture.",
)
@options.seed("Of the order.")
@click.option("--open", "in_browser", is_flag=True, help="Open the page in a browser.")
@studying
def human(
    run: Run,
    folder: Path,
    labels: Path | None,
    count: int | None,
    guesses: int,
    seed: int,
    in_browser: bool,
) -> "HumanStudy":
    """Label pictures yourself, and see who is right more often.

    Prints the address of a page, which is answered on this machine alone: it shows one picture of
    the folder after the other, in a random order, and tells after each answer what it is and what
    the network said. Enough ends it. Every answer is kept at once; after Ctrl-C the same command
    goes on. After Karpathy 2014, "What I learned from competing against a ConvNet on ImageNet".

    \b
    Examples:
      convlens study human photos/ --open --out me
      convlens study human photos/ --labels labels.csv --count 100 \\
          --guesses 5 --out me
    """
    from convlens.client import studies

    def opened(address: str) -> None:
        click.echo(f"convlens: label pictures at {address} (Ctrl-C: go on later)", err=True)
        if in_browser and not webbrowser.open(address):
            click.echo("convlens: no browser could be opened; open that address in one.", err=True)

    return studies.human(
        run.client,
        folder,
        labels=labels,
        count=count,
        guesses=guesses,
        seed=seed,
        opened=opened,
        **run.common,
    )

"""`convlens study variations`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from convlens.client.cli._studies import options
from convlens.client.cli._studies.common import Run, folder_argument, studying

if TYPE_CHECKING:
    from convlens.client.studies import Variations

TABLE = "factors.csv"


@click.command("variations")
@folder_argument
@click.option(
    "--factors",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"CSV with a column file and one for each factor; else {TABLE} in the folder.",
)
@options.layers("Layers whose codes are looked at, from the first to the last.")
@studying
def variations(
    run: Run, folder: Path, factors: Path | None, layers: tuple[str, ...]
) -> "Variations":
    """Show what codes vary with: position, pose, colour, class and the rest.

    The folder has pictures rendered in every combination of some factors, as 'python -m
    convlens.workers.shapes.variations' draws them. For each layer: the share of the variance that
    each factor explains, how many dimensions that takes, and its values in two of them: Aubry &
    Russell 2015, 'Understanding deep features with computer-generated imagery'.

    \b
    Examples:
      convlens study variations drawn/ --layers features.2,cnn-code,logits \\
          --out variations
      convlens study variations drawn/ --factors factors.csv \\
          --layers layer4 --out variations
    """
    from convlens.client import studies

    table = factors or folder / TABLE
    return studies.variations(run.client, table, layers, folder=folder, **run.common)

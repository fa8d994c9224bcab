"""`convlens study evolution`."""

from typing import TYPE_CHECKING

import click

from convlens.client.cli._studies import options
from convlens.client.cli._studies.common import Run, pictures, studying

if TYPE_CHECKING:
    from convlens.client.studies import Evolution


@click.command("evolution")
@pictures
@click.option(
    "--networks",
    required=True,
    metavar="NAME,NAME,...",
    help="The checkpoints as they are served, the earliest first.",
)
@click.option("--layer", required=True, metavar="NAME", help="A layer of maps.")
@options.maps("the 8 that are excited most at the end")
@studying
def evolution(
    run: Run, pictures: tuple[str, ...], networks: str, layer: str, maps: tuple[int, ...] | None
) -> "Evolution":
    """Show how units and filters changed over a training.

    For each checkpoint and map the picture of the folder in which it is strongest, cut to what its
    unit sees there, below the projection of that unit down to the pixels (deconvnet): Zeiler &
    Fergus 2013, figure 4. Then the filters of the first convolution at each checkpoint, and curves
    of both.

    \b
    Examples:
      convlens study evolution photos/ --networks ep1,ep9,ep90 \\
          --layer layer3 --out evolution
    """
    from convlens.client import studies

    if run.network:
        raise click.UsageError("--network names one network; here --networks names them all.")
    return studies.evolution(
        run.client,
        pictures,
        networks.split(","),
        layer,
        maps=maps or None,
        state=run.state,
        progress=run.progress,
    )

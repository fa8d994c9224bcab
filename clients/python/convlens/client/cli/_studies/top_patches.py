"""`convlens study top-patches`."""

from typing import TYPE_CHECKING

import click

from convlens.client.cli._studies import options
from convlens.client.cli._studies.common import Run, pictures, studying

if TYPE_CHECKING:
    from convlens.client.studies import TopPatches


@click.command("top-patches")
@pictures
@click.option("--layer", required=True, metavar="NAME", help="A layer of maps.")
@options.maps("the 16 that are excited most")
@options.count("How many pictures of each map.")
@studying
def top_patches(
    run: Run, pictures: tuple[str, ...], layer: str, maps: tuple[int, ...] | None, count: int
) -> "TopPatches":
    """Show what excites the maps of a layer most.

    For each map the pictures of the folder in which it is strongest, cut to what its unit sees
    there, beside the projection of that unit down to the pixels (deconvnet): Zeiler & Fergus 2013,
    figure 2. All projections of a map have one scale.

    \b
    Examples:
      convlens study top-patches photos/ --layer layer3 --out patches
      convlens study top-patches photos/ --layer features.7 --maps 0,3,17 \\
          --out patches
    """
    from convlens.client import studies

    return studies.top_patches(
        run.client, pictures, layer, maps=maps or None, count=count, **run.common
    )

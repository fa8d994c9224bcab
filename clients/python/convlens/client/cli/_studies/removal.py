"""`convlens study removal`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from convlens.client.cli._studies.common import Run, folder_argument, labels, studying

if TYPE_CHECKING:
    from convlens.client.studies import RemovalStudy


@click.command("removal")
@folder_argument
@click.option(
    "--layers",
    metavar="NAME,NAME,...",
    help="Layers to remove one by one, or blocks such as layer1.0; else all that can be.",
)
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="NAME+NAME...",
    help="Layers to remove together; several times for several groups. Without --layers and "
    "--group, those of the lectures.",
)
@labels
@studying
def removal(
    run: Run, folder: Path, layers: str | None, groups: tuple[str, ...], labels: Path | None
) -> "RemovalStudy":
    """Measure what a network loses without single layers, and without several.

    FOLDER has a folder of pictures for each class. The accuracy is that of the network as it is,
    which is not trained again: Zeiler & Fergus 2013, table 3, do. What a removed layer takes goes
    on in its place where it has the shape of what it gives; else zeros do.

    By default these are all convolutions, poolings, fully connected layers and residual blocks, one
    by one, and in groups two convolutions of the middle, the fully connected layers but the last,
    both, and all blocks that keep their shape. Each costs a pass of the network for each picture:
    name --layers where there are many.

    \b
    Examples:
      convlens study removal photos/ --out removal
      convlens study removal photos/ --layers layer1.0,layer3.1 --out blocks
      convlens study removal photos/ --group features.6+features.8 --out pair
    """
    from convlens.client import studies

    return studies.removal(
        run.client,
        folder,
        layers=None if layers is None else _names(layers, ","),
        groups=[_names(group, "+") for group in groups] if groups else None,
        labels=labels,
        **run.common,
    )


def _names(text: str, separator: str) -> list[str]:
    return [name.strip() for name in text.split(separator) if name.strip()]

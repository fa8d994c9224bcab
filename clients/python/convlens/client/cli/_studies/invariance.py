"""`convlens study invariance`."""

from typing import TYPE_CHECKING, Any

import click

from convlens.client.cli._specs import Numbers
from convlens.client.cli._studies import options
from convlens.client.cli._studies.common import Run, pictures, studying

if TYPE_CHECKING:
    from convlens.client.studies import Invariance


@click.command("invariance")
@pictures
@options.layers("Layers whose codes are compared, from the first to the last.")
@click.option(
    "--translations",
    type=Numbers(int),
    metavar="N,N,...",
    help="Pixels downwards; else 17 steps of up to a quarter of the input's height either way.",
)
@click.option(
    "--scales",
    type=Numbers(),
    metavar="X,X,...",
    help="Factors around the centre; else 1 to 1.8 in steps of 0.1.",
)
@click.option(
    "--rotations",
    type=Numbers(),
    metavar="X,X,...",
    help="Degrees counter-clockwise; else 0 to 360 in steps of 15.",
)
@click.option(
    "--fill",
    type=click.Choice(["mean", "edge", "mirror"]),
    default="mean",
    show_default=True,
    help="What lies where the picture has moved away: the network's mean colour, the pixels of "
    "the edge repeated, or the picture mirrored.",
)
@click.option(
    "--labels",
    metavar="FILE|folders",
    help="CSV with columns file and label, or JSON, or 'folders' where each picture's folder names "
    "its class; else the class is the network's own answer to the unchanged picture.",
)
@studying
def invariance(
    run: Run, pictures: tuple[str, ...], layers: tuple[str, ...], **given: Any
) -> "Invariance":
    """Show what moving, enlarging and turning pictures changes.

    Each picture is brought to the network's input size, moved, enlarged and turned in steps, and
    its codes are compared with those of the unchanged one; 1 is as far away as another picture of
    the folder. Beside them, the probability of its class: Zeiler & Fergus 2013, figure 5.

    \b
    Examples:
      convlens study invariance photos/ --layers features.2,cnn-code \\
          --out invariance
      convlens study invariance photos/ --layers layer1,layer4 \\
          --labels folders --out invariance
    """
    from convlens.client import studies

    return studies.invariance(run.client, pictures, layers, **given, **run.common)

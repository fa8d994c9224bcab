"""`convlens study health`."""

from typing import TYPE_CHECKING

import click

from convlens.client.cli._studies.common import Run, pictures, studying

if TYPE_CHECKING:
    from convlens.client.studies import HealthStudy


@click.command("health")
@pictures
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME",
    help="A layer to look at; repeat it for more. Else all layers that rectify.",
)
@click.option(
    "--gradients",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    metavar="N",
    help="On how many pictures the gradient is checked.",
)
@studying
def health(
    run: Run, pictures: tuple[str, ...], layers: tuple[str, ...], gradients: int
) -> "HealthStudy":
    """Look for dead units, noise in the filters, wrong gradients.

    Of each layer: units that no picture of the folder excites (dead) and units that are above 0
    everywhere (always on), the share of activations that are not 0, and their histogram. Of the
    first convolution: whether its filters are too noisy, too correlated, lack structure, or are
    fine. Of the first pictures: whether the gradient of the class's score is that of finite
    differences.

    \b
    Examples:
      convlens study health photos/ --out health
      convlens study health photos/ --layer layer1 --layer layer2 --out health
    """
    from convlens.client import studies

    return studies.health(
        run.client, pictures, layers=layers or None, checked=gradients, **run.common
    )

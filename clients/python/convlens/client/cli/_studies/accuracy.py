"""`convlens study accuracy`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from convlens.client.cli._specs import Numbers
from convlens.client.cli._studies.common import Run, folder_argument, labels, studying

if TYPE_CHECKING:
    from convlens.client.studies import Accuracy


@click.command("accuracy")
@folder_argument
@labels
@click.option(
    "--with",
    "others",
    multiple=True,
    metavar="NAME[@VERSION]",
    help="Another served network of the same classes, to answer together with it; repeatable.",
)
@click.option(
    "--crops",
    type=click.Choice(["1", "10"]),
    default="1",
    show_default=True,
    help="Ten: the corners and the middle, and their mirror images.",
)
@click.option(
    "--scales",
    type=Numbers(),
    default="1",
    show_default=True,
    metavar="X,X,...",
    help="Of the resized picture, as multiples of the network's own.",
)
@click.option(
    "--factors",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="CSV with a column file and others, such as texture: accuracy by each of them.",
)
@studying
def accuracy(
    run: Run,
    folder: Path,
    labels: Path | None,
    others: tuple[str, ...],
    crops: str,
    scales: tuple[float, ...],
    factors: Path | None,
) -> "Accuracy":
    """Compare what networks tell with what the pictures show.

    Top-1 and top-5 with Wilson's intervals, the hardest and easiest classes, confusion,
    calibration, and the mistakes that are made with most confidence. Several crops, scales and
    networks are averaged, and compared with the plain answer.

    \b
    Examples:
      convlens study accuracy labelled/ --out accuracy
      convlens study accuracy labelled/ --crops 10 --scales 1,1.15,1.3 \\
          --out crops
      convlens study accuracy labelled/ --with shapes-robust \\
          --factors factors.csv --out both
    """
    from convlens.client import studies

    return studies.accuracy(
        run.client,
        folder,
        labels=labels,
        networks=(run.network, *others),
        crops=int(crops),
        scales=scales,
        factors=factors,
        state=run.state,
        progress=run.progress,
    )

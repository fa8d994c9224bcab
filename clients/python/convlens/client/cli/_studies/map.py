"""`convlens study map`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convlens.client.cli._studies import options
from convlens.client.cli._studies.common import Run, labels, pictures, studying

if TYPE_CHECKING:
    from convlens.client.studies import CodeMap


@click.command("map")
@pictures
@labels
@click.option(
    "--layer", default="cnn-code", show_default=True, metavar="NAME", help="Whose codes are mapped."
)
@click.option(
    "--way",
    type=click.Choice(["t-sne", "pca", "umap"]),
    default="t-sne",
    show_default=True,
    help="How codes are laid out; umap needs umap-learn.",
)
@click.option(
    "--pooling",
    type=click.Choice(["none", "avg", "max", "flatten"]),
    help="What becomes of the places of a layer's maps; else their mean.",
)
@options.seed("Of t-SNE and UMAP.")
@studying
def map(
    run: Run,
    pictures: tuple[str, ...],
    labels: Path | None,
    layer: str,
    way: Any,
    pooling: Any,
    seed: int,
) -> "CodeMap":
    """Lay pictures out so that those whose codes are alike lie together.

    The page has a map to zoom and search, with thumbnails wherever they do not overlap, coloured
    by label, prediction, or who is right; and a grid of all pictures. Labels are those of --labels,
    or the names of the folders in one FOLDER; a map needs none. By van der Maaten & Hinton 2008.

    \b
    Examples:
      convlens study map photos/ --out map
      convlens study map photos/ --labels labels.csv --way pca \\
          --layer layer3 --out map
    """
    from convlens.client import studies

    return studies.code_map(
        run.client,
        pictures,
        layer=layer,
        way=way,
        labels=labels,
        pooling=pooling,
        seed=seed,
        **run.common,
    )

"""`convlens study layers`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from convlens.client.cli._specs import Numbers
from convlens.client.cli._studies import options
from convlens.client.cli._studies.common import Run, folder_argument, labels, studying

if TYPE_CHECKING:
    from convlens.client.studies import Layers


@click.command("layers")
@folder_argument
@labels
@options.layers("Layers, and cnn-code and logits; 'convlens anatomy' lists them.")
@click.option(
    "--per-class",
    type=click.IntRange(1),
    metavar="N",
    help="Pictures of each class to learn from; else half of the smallest class, 30 at most.",
)
@click.option(
    "--splits",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    metavar="N",
    help="How often the pictures are parted at random.",
)
@click.option(
    "--dimensions",
    type=Numbers(int),
    metavar="N,N,...",
    help="Also reduce the codes to so many dimensions by PCA.",
)
@options.seed("Of the splits.")
@studying
def layers(
    run: Run,
    folder: Path,
    labels: Path | None,
    layers: tuple[str, ...],
    per_class: int | None,
    splits: int,
    dimensions: tuple[int, ...] | None,
    seed: int,
) -> "Layers":
    """Read the classes from each layer with linear classifiers.

    A linear SVM and a softmax classifier learn from the codes of each layer for some pictures of
    each class, and are judged on all others, in several random splits: Zeiler & Fergus 2013,
    table 7. The classes need not be the network's. Maps are max-pooled to a grid of 4,096 numbers
    at most, and codes scaled to length 1.

    \b
    Examples:
      convlens study layers labelled/ --layers layer1,layer2,layer3,layer4 \\
          --out layers
      convlens study layers labelled/ --layers cnn-code \\
          --dimensions 128,1024 --out reduced
    """
    from convlens.client import studies

    return studies.layers(
        run.client,
        folder,
        layers,
        labels=labels,
        per_class=per_class,
        splits=splits,
        dimensions=dimensions or (),
        seed=seed,
        **run.common,
    )

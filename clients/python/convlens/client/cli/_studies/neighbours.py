"""`convlens study neighbours`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convlens.client._features import POOLINGS, Pooling
from convlens.client._text import printable
from convlens.client.cli._studies import options
from convlens.client.cli._studies.common import Run, pictures, studying

if TYPE_CHECKING:
    from convlens.client.studies import NeighboursStudy


@click.command("neighbours")
@pictures
@click.option(
    "--query",
    "queries",
    required=True,
    multiple=True,
    metavar="FILE|FOLDER|GLOB",
    help="Pictures whose neighbours are wanted; give it several times for more.",
)
@options.count("How many neighbours of each.")
@click.option(
    "--layer", default="cnn-code", show_default=True, metavar="NAME", help="Whose codes compare."
)
@click.option(
    "--pooling",
    type=click.Choice([name for name in POOLINGS if name != "none"]),
    help="What becomes of maps; without it, their means.",
)
@click.option(
    "--index",
    metavar="DIR|URL",
    help="A folder, or a server of Qdrant (http://host:6333; its key in QDRANT_API_KEY); else "
    "OUT/index.",
)
@click.option(
    "--collection",
    default="convlens",
    show_default=True,
    metavar="NAME",
    help="Which of an index's collections.",
)
@studying
def neighbours(
    run: Run,
    pictures: tuple[str, ...],
    queries: tuple[str, ...],
    count: int,
    layer: str,
    pooling: Pooling | None,
    index: str | None,
    collection: str,
) -> "NeighboursStudy":
    """Find the pictures that are most alike to the network.

    Puts the codes of the pictures into an index, and finds those whose codes have the largest
    cosine with the code of each query (Krizhevsky et al. 2012, figure 4). The index stays: what it
    has of files that have not changed is not asked for again, and more folders may be added. Where
    pictures lie in folders of a folder, these name their classes, and the share of neighbours of
    the query's class is told.

    \b
    Examples:
      convlens study neighbours photos/ --query cat.jpg --out alike
      convlens study neighbours shapes/ --query shapes/ --layer features.8 \\
          --out shapes-alike
      convlens study neighbours photos/ --query cat.jpg \\
          --index http://localhost:6333 --out alike
    """
    from convlens.client import studies

    where = index or str(run.state.parent / "index")
    try:
        made = studies.index_pictures(
            run.client,
            pictures,
            where,
            layer=layer,
            pooling=pooling,
            network=run.network,
            collection=collection,
            progress=run.progress,
        )
        found = studies.neighbours(
            run.client, queries, where, count=count, collection=collection, **run.common
        )
    except KeyboardInterrupt:
        if index is not None or Path(where).is_dir():
            words = f"what is done is kept in the index {printable(where)}"
            click.echo(f"convlens: {words}; the same command goes on from it.", err=True)
        raise
    seconds = made.seconds + found.facts.seconds
    skipped = (*made.skipped, *found.facts.skipped)
    return replace(found, facts=replace(found.facts, seconds=seconds, skipped=skipped))

"""Which pictures are alike to a network: neighbours in the space of its codes."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._picture_files import Name, Names
from convlens.client._text import printable
from convlens.client.studies._code_index import (
    BATCH,
    COLLECTION,
    CodeIndex,
    IndexedPicture,
    opened,
)
from convlens.client.studies._indexing import check, labelled
from convlens.client.studies._study import Facts, Study, cell
from convlens.client.studies._walk import (
    Progress,
    asking_codes,
    gathered,
    name_of,
    plan_of,
    unheard,
)

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

COUNT = 9
# Cosines from here on are of pictures that the layer does not tell apart.
SAME = 0.99999


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A picture of the index; `similarity` is the cosine of its code and the query's, [-1, 1].

    `label` is the name of its folder, where pictures were indexed by a folder of folders.
    """

    picture: Path
    similarity: float
    label: str | None = None


@dataclass(frozen=True, slots=True)
class NeighboursOf:
    """A query with its neighbours, the most similar first; it is none of its own neighbours.

    `chance` is the share of the index's other pictures that are of the query's class, in [0, 1].
    """

    query: Path
    neighbours: Sequence[Neighbour]
    label: str | None = None
    chance: float | None = None

    @property
    def share(self) -> float | None:
        """The share of the neighbours that are of the query's class; None where it has none."""
        if self.label is None or not self.neighbours:
            return None
        return sum(each.label == self.label for each in self.neighbours) / len(self.neighbours)


@dataclass(frozen=True, slots=True, eq=False)
class NeighboursStudy(Study):
    """The pictures of an index that are most similar to each query, by the cosine of codes.

    After Krizhevsky et al. 2012, figure 4 (there by Euclidean distance). `facts.pictures` is how
    many pictures the index has, `asked` how many neighbours were wanted.
    """

    name: ClassVar[str] = "neighbours"
    heading: ClassVar[str] = "Which pictures are alike to the network"
    facts: Facts
    layer: str
    asked: int
    queries: Sequence[NeighboursOf]

    @property
    def findings(self) -> Sequence[str]:
        """How many neighbours are of the query's class; else which picture is most alike."""
        said = [*self._classes(), *self._nearest()]
        fewest = min(len(each.neighbours) for each in self.queries)
        if fewest < self.asked:
            said.append(
                f"{self.asked} neighbours were asked for, and the index has {fewest} other "
                f"picture{'' if fewest == 1 else 's'}."
            )
        same = [each for each in self.queries if each.neighbours and _is_same(each.neighbours[0])]
        if same:
            one = same[0]
            said.append(
                f"{self.layer} does not tell {len(same)} of the queries from another picture: "
                f"{_short(one.query)} from {_short(one.neighbours[0].picture)}, for one."
            )
        return said

    def tables(self) -> "Mapping[str, DataFrame]":
        """A line for each neighbour and, where folders name classes, one for each class."""
        from pandas import DataFrame

        rows = [
            {
                "query": cell(each.query),
                "rank": rank,
                "picture": cell(one.picture),
                "similarity": one.similarity,
                **({} if each.label is None else {"class": each.label}),
                **({} if one.label is None else {"neighbour's class": one.label}),
            }
            for each in self.queries
            for rank, one in enumerate(each.neighbours, 1)
        ]
        tables = {"Neighbours": DataFrame(rows)}
        if classes := self._by_class():
            tables = {"Neighbours by class": DataFrame(classes), **tables}
        return tables

    def figures(self) -> "Mapping[str, Image]":
        """Queries from the first to the last, each with its neighbours by rank."""
        from convlens.client.studies._neighbour_sheet import SHOWN, neighbour_sheet

        some = f", {SHOWN} of {len(self.queries)} queries" if len(self.queries) > SHOWN else ""
        return {f"Neighbours by {self.layer}{some}": neighbour_sheet(self.queries)}

    def _classes(self) -> list[str]:
        known = [each for each in self.queries if each.share is not None]
        if not known:
            return []
        share = _mean(each.share for each in known)
        chance = _mean(each.chance for each in known)
        first = _mean(each.neighbours[0].label == each.label for each in known)
        many = f"the {len(known)} queries" if len(known) > 1 else "the query"
        return [
            f"Of the neighbours of {many}, {100 * share:.1f} % are of the query's class; chance "
            f"would give {100 * chance:.1f} %.",
            f"The very nearest is of the query's class for {100 * first:.1f} %.",
        ]

    def _nearest(self) -> list[str]:
        some = [each for each in self.queries if each.neighbours]
        if not some:
            return []
        best = max(some, key=lambda each: each.neighbours[0].similarity)
        near = best.neighbours[0]
        return [
            f"Most alike to {self.layer} are {_short(best.query)} and {_short(near.picture)}: a "
            f"similarity of {near.similarity:.3f}."
        ]

    def _by_class(self) -> list[dict[str, Any]]:
        labels = sorted({each.label for each in self.queries if each.label is not None})
        groups = {
            label: [each for each in self.queries if each.label == label and each.neighbours]
            for label in labels
        }
        return [
            {
                "class": label,
                "queries": len(each),
                "share of the same class": _mean(one.share for one in each),
                "share by chance": _mean(one.chance for one in each),
            }
            for label, each in groups.items()
            if each
        ]


def neighbours(
    client: Client,
    queries: Names,
    index: str | os.PathLike[str],
    *,
    count: int = COUNT,
    network: str = "",
    collection: str = COLLECTION,
    state: Name | None = None,
    progress: Progress = unheard,
) -> NeighboursStudy:
    """Finds the pictures of an index (see `index_pictures`) that are most similar to each query.

    Layer and pooling are the index's, and so is the network, unless it has another name now. A
    folder searches exactly; a server of Qdrant approximately, once it has many. Raises
    InvalidRequest where there is no index, its network is another one now, or no query has an
    answer.
    """
    started = time.monotonic()
    if count < 1:
        raise InvalidRequest(f"count is {count}; it must be at least 1.")
    asked = labelled(queries)
    with opened(index, collection, progress) as codes:
        about = codes.about()
        if about is None:
            raise InvalidRequest(f"There is no index in {printable(codes.where)} yet.")
        served = client.network(network or about["network"])
        [read] = about["layers"]
        chosen = LayerSelection(read["name"], read["pooling"], l2_normalize=True)
        plan = plan_of(served, [chosen])
        check(codes, about, plan)
        ask = asking_codes(client, served, [chosen], progress)
        paths = [each.picture for each in asked]
        with gathered(
            paths, plan, ask, state=state, progress=progress, what="reading queries"
        ) as rows:
            labels = {each.picture: each.label for each in asked}
            good = [IndexedPicture.of(path, labels[path]) for path in rows.pictures]
            nearest = _search(codes, good, rows.blocks(chosen.layer, BATCH), count, progress)
            facts = Facts(
                name_of(served),
                served.digest,
                len(codes),
                time.monotonic() - started,
                tuple(rows.skipped),
            )
    return NeighboursStudy(facts, chosen.layer, count, nearest)


def _search(
    codes: CodeIndex,
    queries: Sequence[IndexedPicture],
    blocks: Iterable[NDArray[Any]],
    count: int,
    progress: Progress,
) -> list[NeighboursOf]:
    known, sizes, total = codes.known(queries), codes.labels(), len(codes)
    made: list[NeighboursOf] = []
    progress("searching", 0, len(queries))
    for block in blocks:
        for hits in codes.nearest(block, count + 1):
            query = queries[len(made)]
            others = [hit for hit in hits if hit.id != query.id][:count]
            own = known.get(query.id)
            label = query.label if own is None else own.get("label")
            near = [Neighbour(h.picture.picture, h.similarity, h.picture.label) for h in others]
            chance = None
            if label in sizes:
                chance = (sizes[label] - (own is not None)) / max(1, total - (own is not None))
            else:
                label = None
            made.append(NeighboursOf(query.picture, near, label, chance))
        progress("searching", len(made), len(queries))
    return made


def _is_same(near: Neighbour) -> bool:
    return near.similarity >= SAME


def _mean(shares: Iterable[float | None]) -> float:
    return fmean(share for share in shares if share is not None)


def _short(path: Path) -> str:
    return printable(f"{path.parent.name}/{path.name}")

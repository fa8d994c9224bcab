"""How the maps of a layer, and the first filters, changed over the checkpoints of a training."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from convlens.client._client import Client
from convlens.client._errors import InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._picture_files import Name, Names
from convlens.client._results import Network
from convlens.client._text import percent, printable
from convlens.client.studies._filters import FilterHealth, first_filters
from convlens.client.studies._study import Facts, Skipped, Study, cell
from convlens.client.studies._top_patches import (
    Patch,
    Strongest,
    channels_of,
    check_maps,
    projected,
    strongest,
)
from convlens.client.studies._walk import (
    Progress,
    asking_codes,
    below,
    gathered,
    name_of,
    pictures_of,
    plan_of,
    unheard,
)

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

# Maps that are shown where none are named.
MAPS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A network at one moment of its training.

    `patches` has the strongest patch of each map by its index; `filters` are those of the first
    convolution, None where there are none.
    """

    network: str
    network_digest: str
    patches: Mapping[int, Patch]
    filters: FilterHealth | None


@dataclass(frozen=True, slots=True, eq=False)
class Evolution(Study):
    """The strongest patch of each map at each checkpoint; by Zeiler & Fergus 2013, figure 4.

    `checkpoints` are in the order in which they were named, which is that of the training.
    """

    name: ClassVar[str] = "evolution"
    heading: ClassVar[str] = "How maps and filters changed over the training"
    facts: Facts
    layer: str
    checkpoints: Sequence[Checkpoint]
    notes: Sequence[str] = ()

    @property
    def maps(self) -> Sequence[int]:
        """The maps that are shown, by their index."""
        return list(self.checkpoints[0].patches)

    def filter_changes(self) -> Sequence[tuple[float, float]]:
        """Of each checkpoint, how far its filters are from those before, and from the last ones.

        Both are distances in shares of the last filters' length; the first checkpoint has nothing
        before it, NaN. Empty where there are no filters to compare.
        """
        weights = [one.filters.weights for one in self.checkpoints if one.filters is not None]
        if len(weights) < len(self.checkpoints):
            return []
        whole = float(np.linalg.norm(weights[-1])) or 1.0
        return [
            (
                float(np.linalg.norm(now - weights[at - 1])) / whole if at else float("nan"),
                float(np.linalg.norm(now - weights[-1])) / whole,
            )
            for at, now in enumerate(weights)
        ]

    @property
    def findings(self) -> Sequence[str]:
        """How much stronger the maps became, whether their pictures changed, and the filters."""
        first, last = self.checkpoints[0], self.checkpoints[-1]
        grown = np.array([_ratio(first, last, index) for index in self.maps])
        grown = grown[np.isfinite(grown)]
        said: list[str] = []
        if grown.size:
            said.append(
                f"From {first.network} to {last.network} the strongest activation of "
                f"{_maps(self.maps)} of {self.layer} changed by a factor of "
                f"{_times(float(np.median(grown)))}{' in the median' * (len(self.maps) > 1)}."
            )
        jumps = sum(map(len, self.jumps().values()))
        steps = len(self.maps) * (len(self.checkpoints) - 1)
        said.append(
            f"In {jumps} of {steps} step{'s' * (steps > 1)} between checkpoints another picture "
            "became the one that excites a map most: that is where its appearance jumps."
        )
        changes = self.filter_changes()
        if changes:
            assert first.filters is not None
            assert last.filters is not None
            later = f", and {percent(changes[-2][1])} at {self.checkpoints[-2].network}"
            said.append(
                f"The filters of {first.filters.layer} were {percent(changes[0][1])} of their "
                f"final length away from the final ones at {first.network} "
                f"({first.filters.verdict}){later * (len(changes) > 2)}; the final ones: "
                f"{last.filters.verdict}."
            )
        return [*said, *self.notes]

    def jumps(self) -> Mapping[int, Sequence[int]]:
        """Of each map the checkpoints, from 1, with another strongest picture than the one before.

        Zeiler & Fergus see them as sudden jumps in appearance.
        """
        return {
            index: [
                at
                for at in range(1, len(self.checkpoints))
                if self.checkpoints[at].patches[index].picture
                != self.checkpoints[at - 1].patches[index].picture
            ]
            for index in self.maps
        }

    def tables(self) -> "Mapping[str, DataFrame]":
        """The filters of each checkpoint, and its strongest patches."""
        from pandas import DataFrame

        changes = self.filter_changes()
        rows: list[dict[str, Any]] = []
        for at, one in enumerate(self.checkpoints):
            row: dict[str, Any] = {"checkpoint": one.network}
            if changes and one.filters is not None:
                row |= {
                    "filters": one.filters.verdict,
                    "smooth share": one.filters.smooth,
                    "deviations below noise": one.filters.told_apart,
                    "changed by": changes[at][0],
                    "from the last": changes[at][1],
                }
            strengths = [patch.activation for patch in one.patches.values()]
            row["median strongest activation"] = float(np.median(strengths))
            rows.append(row)
        return {"Checkpoints": DataFrame(rows), "Strongest patches": DataFrame(self._patches())}

    def _patches(self) -> list[dict[str, Any]]:
        return [
            {
                "map": index,
                "checkpoint": one.network,
                "activation": one.patches[index].activation,
                "picture": cell(one.patches[index].picture),
                "row": one.patches[index].position[0],
                "column": one.patches[index].position[1],
                "jump": at in self.jumps()[index],
            }
            for index in self.maps
            for at, one in enumerate(self.checkpoints)
        ]

    def figures(self) -> "Mapping[str, Image]":
        """Patches map by map, curves, and the first filters, all over the checkpoints."""
        from convlens.client.studies import _evolution_charts as charts

        drawn: dict[str, Image] = {}
        if any(patch.box for one in self.checkpoints for patch in one.patches.values()):
            drawn[f"What excites maps of {self.layer} most"] = charts.patches(self)
        drawn["Strongest activations and filters"] = charts.curves(self)
        if self.filter_changes():
            drawn["Filters of the first layer"] = charts.filters(self)
        return drawn


def evolution(
    client: Client,
    pictures: Names,
    networks: Sequence[str],
    layer: str,
    *,
    maps: Sequence[int] | None = None,
    state: Name | None = None,
    progress: Progress = unheard,
) -> Evolution:
    """Follows maps of a layer, and the first filters, over the checkpoints of a training.

    `networks` are the checkpoints as the server serves them, the earliest first; `pictures` files,
    folders and patterns; `maps` indices of the layer's maps, or the 8 that are excited most at the
    last checkpoint. Raises NotFound where there is no such network or layer, InvalidRequest where
    fewer than two networks are named, they differ in their layers, or no picture has an answer.
    """
    started = time.monotonic()
    paths = pictures_of(pictures)
    all_served = _served(client, networks)
    channels = {channels_of(served, layer) for served in all_served}
    shapes = {_shape(served, layer) for served in all_served}
    if len(channels) > 1 or len(shapes) > 1:
        words = f"{layer} has other shapes in some of the networks"
        raise InvalidRequest(f"{words}; name checkpoints of one training.")
    check_maps(maps, min(channels), layer)
    looked = [
        _looked(client, served, layer, paths, below(state, str(number)), progress)
        for number, served in enumerate(all_served)
    ]
    best = looked[-1][0]
    chosen = maps
    if chosen is None:
        order = np.argsort(-best.values[0], kind="stable")[:MAPS]
        chosen = sorted(int(index) for index in order)
    checkpoints: list[Checkpoint] = []
    notes: dict[str, None] = {}
    for served, (strong, good, _) in zip(all_served, looked, strict=True):
        bare = {index: strong.patches(index, good) for index in chosen}

        def heard(what: str, done: int, total: int, name: str = name_of(served)) -> None:
            progress(f"{what} {name}", done, total)

        done, note = projected(client, served, layer, bare, heard)
        filters = first_filters(client, served, good[0])
        for words in (note, filters if isinstance(filters, str) else ""):
            if words:
                notes[words] = None
        checkpoints.append(
            Checkpoint(
                name_of(served),
                served.digest,
                {index: patches[0] for index, patches in done.items()},
                None if isinstance(filters, str) else filters,
            )
        )
    skipped = {each.picture: each for _, _, facts in looked for each in facts.skipped}
    facts = _facts(all_served, looked[-1][2], list(skipped.values()), time.monotonic() - started)
    return Evolution(facts, layer, checkpoints, tuple(notes))


def _served(client: Client, networks: Sequence[str]) -> list[Network]:
    names = [name.strip() for name in networks]
    if not all(names):
        raise InvalidRequest("A network has no name; name checkpoints as the server lists them.")
    served = [client.network(name) for name in names]
    if len({name_of(one) for one in served}) < max(2, len(served)):
        words = "Name at least two different networks, the checkpoints of a training in their order"
        raise InvalidRequest(f"{words}; given: {printable(', '.join(names)) or 'none'}.")
    return served


def _shape(served: Network, layer: str) -> tuple[int, ...]:
    return next(each.output_shape for each in served.anatomy.layers if each.name == layer)


def _looked(
    client: Client,
    served: Network,
    layer: str,
    paths: Sequence[Path],
    state: Path | None,
    progress: Progress,
) -> tuple[Strongest, Sequence[Path], Facts]:
    """The strongest unit of each map of a network, the pictures that answered, and the facts."""
    wanted = [LayerSelection(layer, "max")]
    ask = asking_codes(client, served, wanted, progress)
    what = f"looking through {name_of(served)}"
    with gathered(
        paths, plan_of(served, wanted), ask, state=state, progress=progress, what=what
    ) as rows:
        return strongest(rows, layer, 1), rows.pictures, rows.facts(served, 0.0)


def _ratio(first: Checkpoint, last: Checkpoint, index: int) -> float:
    before = first.patches[index].activation
    return last.patches[index].activation / before if before > 0 else float("nan")


def _maps(maps: Sequence[int]) -> str:
    return f"the {len(maps)} maps" if len(maps) > 1 else f"map {maps[0]}"


def _times(factor: float) -> str:
    return f"{factor:.0f}" if factor >= 10 else f"{factor:.2g}"


def _facts(
    served: Sequence[Network], last: Facts, skipped: Sequence[Skipped], seconds: float
) -> Facts:
    """Of all networks: their names and digests one after the other."""
    names, digests = (
        ", ".join(each) for each in zip(*((name_of(s), s.digest) for s in served), strict=True)
    )
    return Facts(names, digests, last.pictures, seconds, tuple(skipped))

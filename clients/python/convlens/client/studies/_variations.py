"""What the codes of rendered pictures vary with: position, pose, colour, class and the rest."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._picture_files import Name, find
from convlens.client._text import percent, printable, shown
from convlens.client.studies._factor_variance import Parts, parts, products
from convlens.client.studies._grid import Factor, Grid, read_grid
from convlens.client.studies._input_pixels import input_pixels
from convlens.client.studies._invariance import check_layers
from convlens.client.studies._study import Facts, Study
from convlens.client.studies._walk import (
    Gathered,
    Progress,
    asking_codes,
    gathered,
    plan_of,
    unheard,
)

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

# The products of the codes of so many pictures, several times, are 700 MB.
MOST = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Variations(Study):
    """The variance that each factor explains, by layer; by Aubry & Russell 2015, section 3.

    `parts` has it by the name of the layer, in the order given; `shown` for each factor the picture
    [height, width, channels] of each of its values, all other factors being the same.
    """

    name: ClassVar[str] = "variations"
    heading: ClassVar[str] = "What codes vary with"
    facts: Facts
    factors: Sequence[Factor]
    parts: Mapping[str, Parts]
    shown: Mapping[str, Sequence[NDArray[np.uint8]]]
    notes: Sequence[str]

    @property
    def findings(self) -> Sequence[str]:
        """What the first layer and the last vary with, and how the shares move between them."""
        first, *others = self.parts
        said = [self._told(layer) for layer in dict.fromkeys([first, *others[-1:]])]
        if others:
            said.insert(0, self._moved(first, others[-1]))
        return [*said, *self.notes]

    def tables(self) -> "Mapping[str, DataFrame]":
        """Shares and dimensions of every layer, and where each value of a factor lies."""
        from pandas import DataFrame

        shares: list[dict[str, Any]] = []
        places: list[dict[str, Any]] = []
        for layer, found in self.parts.items():
            for part in (*found.factors, found.rest):
                numbers = {"share": part.share, "dimension": part.dimension}
                shares.append({"layer": layer, "part": part.name, **numbers})
            numbers = {"share": found.total, "dimension": found.dimension}
            shares.append({"layer": layer, "part": "all", **numbers})
            for factor, part in zip(self.factors, found.factors, strict=True):
                assert part.places is not None
                places += [
                    {"layer": layer, "factor": factor.name, "value": value, "x": at[0], "y": at[1]}
                    for value, at in zip(factor.values, part.places, strict=True)
                ]
        return {"Shares of the variance": DataFrame(shares), "Embeddings": DataFrame(places)}

    def figures(self) -> "Mapping[str, Image]":
        """Shares of all layers, and for each layer the values of every factor in two dimensions."""
        from convlens.client.studies._variations_chart import embeddings, shares

        drawn = {"Shares of the variance by layer": shares(self.parts)}
        for layer, found in self.parts.items():
            drawn[f"Factors in the codes of {layer}"] = embeddings(self.factors, found, self.shown)
        return drawn

    def _told(self, layer: str) -> str:
        found = self.parts[layer]
        told = sorted(found.factors, key=lambda part: -part.share)
        named = ", ".join(f"{part.name} {percent(part.share, 1)}" for part in told)
        return (
            f"Of the variance of {layer}, {printable(named)} and {percent(found.rest.share, 1)} "
            f"the rest; 90 % of it takes {found.dimension} dimensions."
        )

    def _moved(self, first: str, last: str) -> str:
        before, after = self.parts[first], self.parts[last]
        parts = zip((*before.factors, before.rest), (*after.factors, after.rest), strict=True)
        ratios = [(old.name, old.share, new.share) for old, new in parts]
        up = max(ratios, key=lambda each: each[2] - each[1])
        down = min(ratios, key=lambda each: each[2] - each[1])
        return (
            f"From {first} to {last}, the share of {printable(up[0])} grows most, from "
            f"{percent(up[1], 1)} to {percent(up[2], 1)}, and that of {printable(down[0])} falls "
            f"most, from {percent(down[1], 1)} to {percent(down[2], 1)}."
        )


def variations(
    client: Client,
    table: Name,
    layers: Sequence[str],
    *,
    folder: Name | None = None,
    network: str = "",
    state: Name | None = None,
    progress: Progress = unheard,
) -> Variations:
    """Splits the variance of whole codes into what each factor of rendered pictures explains.

    `table` is a CSV with a column "file", relative to `folder` or else to the table's own, and one
    column for each factor; together they are a full grid, of which at most a tenth may be missing.
    A factor explains the variance of the means of its values, taken over all others; the rest is
    style and what factors do together. A factor with one value is left out, as `notes` says. At
    most 4096 pictures, whose codes are kept on disk. Raises NotFound where there is no such layer,
    InvalidRequest where the table has no grid, or all pictures have the same code.
    """
    started = time.monotonic()
    table = Path(table)
    home = table.parent if folder is None else Path(folder)
    check_layers(layers)
    grid = read_grid(table, home)
    _check_size(grid)
    _note_others(grid, table, home, progress)
    served = client.network(network)
    wanted = [LayerSelection(layer) for layer in layers]
    ask = asking_codes(client, served, wanted, progress)
    with gathered(
        grid.files, plan_of(served, wanted), ask, state=state, progress=progress, what="looking"
    ) as rows:
        kept = grid.of(rows.pictures)
        found: dict[str, Parts] = {}
        for number, layer in enumerate(layers):
            progress("comparing codes", number, len(layers))
            found[layer] = _parts(rows, layer, kept.factors)
        progress("comparing codes", len(layers), len(layers))
        tiles = {path: input_pixels(path, served.input) for path in _named(kept)}
        shown_ones = {
            factor.name: [tiles[path] for path in _along(kept, number)]
            for number, factor in enumerate(kept.factors)
        }
        facts = rows.facts(served, time.monotonic() - started)
        return Variations(facts, kept.factors, found, shown_ones, _notes(kept, found))


def _parts(rows: Gathered, layer: str, factors: Sequence[Factor]) -> Parts:
    gram = products(rows.rows(layer))
    if not gram.trace():
        raise InvalidRequest(f"All pictures have the same code at {layer}; nothing of it varies.")
    return parts(gram, factors)


def _along(grid: Grid, number: int) -> list[Path]:
    """For each value of a factor a picture that has it; all else as the first picture, if any."""
    levels = np.stack([each.levels for each in grid.factors], 1)
    chosen: list[Path] = []
    for value in range(len(grid.factors[number].values)):
        wanted = levels[0].copy()
        wanted[number] = value
        agreeing = (levels == wanted).sum(1) + len(wanted) * (levels[:, number] == value)
        chosen.append(grid.files[int(agreeing.argmax())])
    return chosen


def _named(grid: Grid) -> set[Path]:
    return {path for number in range(len(grid.factors)) for path in _along(grid, number)}


def _check_size(grid: Grid) -> None:
    if len(grid.files) > MOST:
        raise InvalidRequest(
            f"The table has {len(grid.files)} pictures; at most {MOST} are compared with each "
            "other. Leave out some values of a factor."
        )


def _note_others(grid: Grid, table: Path, folder: Path, progress: Progress) -> None:
    listed = {path.resolve() for path in grid.files}
    others = [path for path in find(folder) if path.resolve() not in listed]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        progress(f"{shown(others[0])}{more} are left out: {shown(table)} does not have them.", 0, 0)


def _notes(grid: Grid, found: Mapping[str, Parts]) -> list[str]:
    said: list[str] = []
    if grid.constant:
        named = printable(", ".join(grid.constant))
        said.append(f"Left out, since only one value is there: {named}.")
    missing, size = grid.missing
    if missing:
        totals = [each.total for each in found.values()]
        said.append(
            f"{missing} of {size} combinations of values {'have' if missing > 1 else 'has'} no "
            f"picture: {grid.holes()}. The means are of what is there, and shares add up to "
            f"{min(totals):.3f} to {max(totals):.3f}."
        )
    return said

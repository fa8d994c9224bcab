"""What excites the maps of a layer most, anywhere in a folder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convlens.client import methods
from convlens.client._attributions import MapGeometry
from convlens.client._client import Client
from convlens.client._details import DeconvnetDetails, DeconvnetPatch
from convlens.client._errors import FailedPrecondition, InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._layers import layer_named
from convlens.client._picture_files import Name, Names
from convlens.client._quality import Box
from convlens.client._results import InputGeometry, Network
from convlens.client._text import printable
from convlens.client.studies._study import Facts, Study, cell
from convlens.client.studies._walk import (
    Gathered,
    Progress,
    asking_codes,
    gathered,
    name_of,
    pictures_of,
    plan_of,
    unheard,
)
from convlens.v1.geometry_pb2 import Position

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

# Zeiler & Fergus show the nine strongest.
COUNT = 9
# Maps that are shown where none are named.
MAPS = 16
# Rows of codes that are in memory at a time.
BLOCK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """One place that excites a map: a unit of the layer on one picture.

    `position` is the unit's (row, column). `box` is what it sees, in pixels of the network's input,
    and `region` the same in pixels of the original picture. `pixels` [height, width, channels] in
    [0, 1] and `projection` of the same shape, signed, are cut to that. All but the position is None
    where the layer cannot be projected down, as `TopPatches.note` says.
    """

    picture: Path
    activation: float
    position: tuple[int, int]
    box: Box | None = None
    region: Box | None = None
    pixels: NDArray[Any] | None = None
    projection: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TopPatches(Study):
    """The strongest patches of each map, the strongest first; by Zeiler & Fergus 2013, figure 2.

    `patches` has them by the index of the map. A picture gives a map at most one patch.
    """

    name: ClassVar[str] = "top-patches"
    heading: ClassVar[str] = "What excites the maps of a layer most"
    facts: Facts
    layer: str
    patches: Mapping[int, Sequence[Patch]]
    note: str = ""

    @property
    def findings(self) -> Sequence[str]:
        """Which map was excited most, and which ones by nothing."""
        silent = [index for index, found in self.patches.items() if found[0].activation <= 0]
        best = max(self.patches, key=lambda index: self.patches[index][0].activation)
        top = self.patches[best][0]
        said = [
            f"Of the {len(self.patches)} maps of {self.layer} that were looked at, map {best} was "
            f"excited most: {top.activation:.3g} by {printable(top.picture.name)}."
            if len(self.patches) > 1
            else f"Map {best} of {self.layer} was excited most by {printable(top.picture.name)}: "
            f"{top.activation:.3g}."
        ]
        if silent:
            said.append(f"Nothing excites the maps {', '.join(map(str, silent))}.")
        return [*said, *([self.note] if self.note else [])]

    def tables(self) -> "Mapping[str, DataFrame]":
        """A line for each patch."""
        from pandas import DataFrame

        rows = [
            {
                "map": index,
                "rank": rank,
                "activation": patch.activation,
                "picture": cell(patch.picture),
                "row": patch.position[0],
                "column": patch.position[1],
                **({} if patch.box is None else patch.box._asdict()),
            }
            for index, found in self.patches.items()
            for rank, patch in enumerate(found, 1)
        ]
        return {"Patches": DataFrame(rows)}

    def figures(self) -> "Mapping[str, Image]":
        """Patches beside their projections, and where they lie with their activations."""
        from convlens.client.studies._patch_sheet import patch_sheet, region_sheet

        drawn = {index: found for index, found in self.patches.items() if found[0].box}
        if not drawn:
            return {}
        return {
            f"Strongest patches of {self.layer}": patch_sheet(drawn),
            f"Where they excite {self.layer}": region_sheet(drawn),
        }


def top_patches(
    client: Client,
    pictures: Names,
    layer: str,
    *,
    maps: Sequence[int] | None = None,
    count: int = COUNT,
    network: str = "",
    state: Name | None = None,
    progress: Progress = unheard,
) -> TopPatches:
    """Finds the patches that excite maps of a layer most, with their projections (deconvnet).

    `pictures` are files, folders and patterns; `maps` indices of the layer's maps, or the 16 that
    are excited most. All pictures are sent once, and the maximum of each map with its place is kept
    on disk: memory does not grow with the pictures. Raises NotFound where there is no such layer,
    InvalidRequest where it has no such map, no maps at all, or no picture has an answer.
    """
    started = time.monotonic()
    paths = pictures_of(pictures)
    served = client.network(network)
    channels = channels_of(served, layer)
    check_maps(maps, channels, layer)
    if count < 1:
        raise InvalidRequest(f"count is {count}; it must be at least 1.")
    wanted = [LayerSelection(layer, "max")]
    ask = asking_codes(client, served, wanted, progress)
    with gathered(
        paths, plan_of(served, wanted), ask, state=state, progress=progress, what="looking"
    ) as rows:
        best = strongest(rows, layer, count)
        chosen = range(channels) if maps is None else maps
        if maps is None:
            order = np.argsort(-best.values[0], kind="stable")[:MAPS]
            chosen = sorted(int(index) for index in order)
        bare = {index: best.patches(index, rows.pictures) for index in chosen}
        done, note = projected(client, served, layer, bare, progress)
        return TopPatches(rows.facts(served, time.monotonic() - started), layer, done, note)


@dataclass(frozen=True, slots=True)
class Strongest:
    """For each map, its strongest pictures: values, numbers of pictures and places.

    The arrays are [rank, maps], and places [rank, maps, 2].
    """

    values: NDArray[Any]
    numbers: NDArray[np.int64]
    places: NDArray[np.int64]

    def patches(self, index: int, pictures: Sequence[Path]) -> list[Patch]:
        """Those of one map, the strongest first."""
        ranks = range(len(self.values))
        return [self._patch(rank, index, pictures) for rank in ranks]

    def _patch(self, rank: int, index: int, pictures: Sequence[Path]) -> Patch:
        row, column = map(int, self.places[rank, index])
        picture = pictures[int(self.numbers[rank, index])]
        return Patch(picture, float(self.values[rank, index]), (row, column))


def strongest(rows: Gathered, layer: str, count: int) -> Strongest:
    """The pictures with the largest maxima; of equal ones, the first. Memory is of one block."""
    kept: Strongest | None = None
    start = 0
    blocks = zip(rows.blocks(layer, BLOCK), rows.blocks(f"{layer}.positions", BLOCK), strict=True)
    for values, places in blocks:
        numbers = np.arange(start, start + len(values))[:, None].repeat(values.shape[1], 1)
        start += len(values)
        if kept is not None:
            values = np.concatenate([kept.values, values])
            numbers = np.concatenate([kept.numbers, numbers])
            places = np.concatenate([kept.places, places])
        order = np.argsort(-values, axis=0, kind="stable")[:count]
        kept = Strongest(
            np.take_along_axis(values, order, 0),
            np.take_along_axis(numbers, order, 0),
            np.take_along_axis(places, order[:, :, None], 0),
        )
    assert kept is not None
    return kept


def channels_of(served: Network, name: str) -> int:
    """How many maps a layer has; NotFound or InvalidRequest where there are none to read."""
    layer = layer_named(served, name)
    if len(layer.output_shape) != 3 or not layer.supports_features:
        raise InvalidRequest(f"{name} has no maps that can be read; choose a layer that has.")
    return layer.output_shape[0]


def check_maps(maps: Sequence[int] | None, channels: int, layer: str) -> None:
    """Raises InvalidRequest for indices that the layer does not have."""
    if maps is not None and not maps:
        raise InvalidRequest("No map is named; leave them out for those that are excited most.")
    for index in maps or ():
        if not 0 <= index < channels:
            raise InvalidRequest(f"{layer} has no map {index}; it has 0 to {channels - 1}.")


def projected(
    client: Client,
    served: Network,
    layer: str,
    bare: Mapping[int, Sequence[Patch]],
    progress: Progress,
) -> tuple[dict[int, list[Patch]], str]:
    """The patches with what they see, and why all lack it where the layer does not allow it.

    Those of units that are not above 0 lack it always.
    """
    total, count = sum(map(len, bare.values())), 0
    done: dict[int, list[Patch]] = {}
    try:
        for index, patches in bare.items():
            done[index] = []
            for patch in patches:
                # What excites nothing has nothing that could be projected.
                active = patch.activation > 0
                seen = _seen(client, served, layer, index, patch) if active else patch
                done[index].append(seen)
                count += 1
                progress("projecting", count, total)
    except FailedPrecondition as error:
        note = f"{layer} cannot be projected down: {error.message}"
        return {index: list(patches) for index, patches in bare.items()}, note
    return done, ""


def _seen(client: Client, served: Network, layer: str, index: int, patch: Patch) -> Patch:
    row, column = patch.position
    asked = methods.Deconvnet(
        layer=layer, map_index=index, position=Position(row=row, column=column)
    )
    [found] = client.explain(patch.picture, asked, network=name_of(served)).attributions
    if found.error is not None:
        raise found.error
    assert isinstance(found.details, DeconvnetDetails)
    [shown] = found.details.parts
    assert isinstance(shown, DeconvnetPatch)
    return replace(
        patch,
        box=shown.receptive_field,
        region=_on_original(shown.receptive_field, found.geometry, served.input),
        pixels=shown.input_patch,
        projection=shown.reconstruction,
    )


def _on_original(box: Box, lies: MapGeometry | None, seen: InputGeometry) -> Box | None:
    """A box of the network's input on the original picture."""
    if lies is None:
        return None
    crop = lies.crop
    across, down = (crop.right - crop.left) / seen.width, (crop.bottom - crop.top) / seen.height
    return Box(
        crop.left + box.left * across,
        crop.top + box.top * down,
        crop.left + box.right * across,
        crop.top + box.bottom * down,
    )

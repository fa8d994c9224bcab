"""Cuts a tile out of a clean map for each row, and pastes what changed into it.

Maps are tables here, a line of features for each place: lines are copied as a whole, by index, for
all rows at once.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from convlens.workers.incremental.bands import Band, Places


@dataclass(frozen=True)
class Strip:
    """Along one axis: the first place of each window's tile, and the places of a tile.

    Tiles may reach into so many places of padding `before` the map and `after` it.
    """

    starts: Places
    length: int
    before: int = 0
    after: int = 0

    @staticmethod
    def of(band: Band) -> "Strip":
        """The tiles that are the patches of a band."""
        return Strip(band.starts, band.length)

    @staticmethod
    def whole(band: Band) -> "Strip":
        """The whole map."""
        return Strip(np.zeros_like(band.first), band.size)

    def is_patch(self, band: Band) -> bool:
        """Whether the tiles are the patches of a band, and nothing is to be pasted."""
        return self.length == band.length and bool((self.starts == band.starts).all())


@dataclass(frozen=True)
class Rows:
    """The windows that the rows of a batch are about, by their numbers along each axis."""

    vertical: Places
    horizontal: Places

    def __len__(self) -> int:
        return len(self.vertical)

    def last(self, count: int) -> "Rows":
        """The last row, so often."""
        return Rows(self.vertical[-1:].repeat(count), self.horizontal[-1:].repeat(count))

    @staticmethod
    def joined(parts: "Sequence[Rows]") -> "Rows":
        """Those of several parts, one after the other."""
        return Rows(
            np.concatenate([part.vertical for part in parts]),
            np.concatenate([part.horizontal for part in parts]),
        )


# The clean operand [places, features] of so many successive rows each.
Tables: TypeAlias = Sequence[tuple[Tensor, int]]


@dataclass(frozen=True)
class Tile:
    """What a call takes of an operand, along both axes of its map, and where its patches lie.

    `axes` of the operand are from the last; `value` is what is in the padding.
    """

    strips: tuple[Strip, Strip]
    bands: tuple[Band, Band]
    axes: tuple[int, int]
    value: float = 0.0

    @property
    def is_patch(self) -> bool:
        """Whether it is the patches themselves."""
        return all(
            strip.is_patch(band) for strip, band in zip(self.strips, self.bands, strict=True)
        )

    @property
    def places(self) -> int:
        """Places of a tile."""
        return self.strips[0].length * self.strips[1].length

    def table(self, clean: Tensor) -> Tensor:
        """A clean operand [1, ...] with its padding, as new memory [places, features]."""
        vertical, horizontal = self.strips
        pads = (0, 0, horizontal.before, horizontal.after, vertical.before, vertical.after)
        places = functional.pad(_lines(clean, self.axes), pads, value=self.value)
        return places.flatten(0, 2).contiguous()

    @property
    def padding(self) -> Hashable:
        """What its table differs in from that of another tile of the same operand."""
        vertical, horizontal = self.strips
        return vertical.before, vertical.after, horizontal.before, horizontal.after, self.value

    def cut(self, tables: Tables, patch: Tensor, rows: Rows) -> Tensor:
        """The tiles of the rows [n, ...], with each row's patch in it."""
        tiles = self.gather(tables, rows)
        self._paste(tiles, _lines(patch, self.axes), rows)
        rest = [size for n, size in enumerate(patch.shape) if n - patch.dim() not in self.axes]
        return tiles.view(*tiles.shape[:3], *rest[1:]).movedim((1, 2), self.axes)

    def gather(self, tables: Tables, rows: Rows) -> Tensor:
        """The tiles of the rows [n, rows, columns, features] as they are in the clean maps."""
        [(first, _), *_] = tables
        indices = torch.from_numpy(self._indices(rows)).to(first.device)
        tiles = first.new_empty(*indices.shape, first.shape[1])
        start = 0
        for table, count in tables:
            stop = start + count
            lines = indices[start:stop].flatten()
            torch.index_select(table, 0, lines, out=tiles[start:stop].flatten(0, 2))
            start = stop
        return tiles

    def _indices(self, rows: Rows) -> NDArray[np.int64]:
        """Of each tile's places in the table [n, rows, columns]."""
        vertical, horizontal = self.strips
        width = self.bands[1].size + horizontal.before + horizontal.after
        down = _run(vertical.starts[rows.vertical] + vertical.before, vertical.length)
        across = _run(horizontal.starts[rows.horizontal] + horizontal.before, horizontal.length)
        return down[:, :, None] * width + across[:, None, :]

    def _paste(self, tiles: Tensor, patches: Tensor, rows: Rows) -> None:
        """Writes each patch [n, rows, columns, features] where it overlaps its tile."""
        (vertical, horizontal), (down, across) = self.strips, self.bands
        tops = (down.starts - vertical.starts)[rows.vertical]
        lefts = (across.starts - horizontal.starts)[rows.horizontal]
        if bool((tops == tops[0]).all() and (lefts == lefts[0]).all()):
            to_rows, from_rows = _overlap(int(tops[0]), vertical.length, down.length)
            to_columns, from_columns = _overlap(int(lefts[0]), horizontal.length, across.length)
            tiles[:, to_rows, to_columns] = patches[:, from_rows, from_columns]
            return
        y, x = _run(tops, down.length), _run(lefts, across.length)
        inside = ((y >= 0) & (y < vertical.length))[:, :, None] & (
            (x >= 0) & (x < horizontal.length)
        )[:, None, :]
        first = np.arange(len(rows))[:, None, None] * vertical.length
        places = ((first + y[:, :, None]) * horizontal.length + x[:, None, :])[inside]
        lines = patches.reshape(-1, patches.shape[3])
        if not inside.all():
            lines = lines[torch.from_numpy(np.flatnonzero(inside)).to(lines.device)]
        tiles.view(-1, tiles.shape[3]).index_copy_(
            0, torch.from_numpy(places).to(tiles.device), lines
        )


def _lines(tensor: Tensor, axes: tuple[int, int]) -> Tensor:
    """A tensor with its places first and then its features [n, rows, columns, features]."""
    moved: Any = tensor.movedim(axes, (1, 2))
    return moved.flatten(3) if moved.dim() > 3 else moved[..., None]


def _run(starts: Places, length: int) -> Places:
    """So many successive numbers from each start [n, length]."""
    return starts[:, None] + np.arange(length)


def _overlap(offset: int, tile: int, patch: int) -> tuple[slice, slice]:
    """Where a patch that starts at `offset` lies in its tile, and the part of it that does."""
    first, stop = max(0, offset), max(0, min(tile, offset + patch))
    return slice(first, max(first, stop)), slice(first - offset, max(first, stop) - offset)

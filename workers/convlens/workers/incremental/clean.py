"""What a network computes for a picture as it is, kept where patches are pasted into it."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from convlens.workers.anatomy import Call, Trace
from convlens.workers.anatomy.recorder import leaves
from convlens.workers.body import Body
from convlens.workers.incremental.counting import Counting
from convlens.workers.incremental.course import Course
from convlens.workers.incremental.tiles import Tile

# Of a call, the position of its operand, that of its output being OUTPUT, and the padding.
Spot: TypeAlias = tuple[int, int, Hashable]
OUTPUT = -1


def spot(call: int, position: int, tile: Tile) -> Spot:
    """What the table of a tile is kept by."""
    return call, position, tile.padding


@dataclass(frozen=True, eq=False)
class Clean:
    """The tables [places, features] of one picture that tiles are cut out of."""

    tables: Mapping[Spot, Tensor]


def clean_of(body: Body, courses: Iterable[Course], picture: Tensor) -> Clean:
    """Runs the network for a picture [channels, height, width] as courses need it."""
    wanted: dict[Spot, Tile] = {}
    for course in courses:
        read = ((call, OUTPUT, tile) for call, tile in course.reads.items())
        wanted.update({spot(*each): each[2] for each in (*course.tiles, *read)})
    keeping = _Keeping(body.trace, wanted)
    with torch.no_grad():
        keeping.run(body.module, body.place(picture[None]))
    return Clean(keeping.tables)


class _Keeping(Counting):
    """Keeps operands before a call, which may write to them, and outputs behind it."""

    def __init__(self, trace: Trace, wanted: Mapping[Spot, Tile]) -> None:
        super().__init__(trace)
        self.tables: dict[Spot, Tensor] = {}
        self._wanted: dict[int, list[tuple[int, Tile]]] = {}
        for (call, position, _), tile in wanted.items():
            self._wanted.setdefault(call, []).append((position, tile))

    def make(
        self, call: Call, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The call as it is."""
        wanted = self._wanted.get(call.index, ())
        operands = list(leaves(Tensor, (args, kwargs))) if wanted else []
        for position, tile in wanted:
            if position != OUTPUT:
                self._keep(call, position, tile, operands[position])
        out = func(*args, **kwargs)
        for position, tile in wanted:
            if position == OUTPUT:
                self._keep(call, position, tile, out)
        return out

    def _keep(self, call: Call, position: int, tile: Tile, value: Tensor) -> None:
        self.tables[spot(call.index, position, tile)] = tile.table(value)
